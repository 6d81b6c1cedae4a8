"""`Emitter`: typed stages to LLB.

Each stage is built once, after those that it reads. Names and places of steps go along, so that
progress and failures show the step, and the template it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final, assert_never

from torana.core.errors import UnsupportedError
from torana.core.llb import ops as o
from torana.core.llb.actions import FileActions
from torana.core.llb.definition import Definition, SourceInfo
from torana.core.llb.state import State, http, merge, mkdir, rm, scratch, symlink
from torana.core.llb.vertices import SourceLocation
from torana.core.oci.image import DEFAULT_PATH
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.options import BuildOptions
from torana.frontends.kit.yamltree import Mark
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.built import Built
from torana.frontends.yaml.commands import command
from torana.frontends.yaml.destinations import absolute, chown, destination, parent
from torana.frontends.yaml.downloads import checked_out, fetched
from torana.frontends.yaml.imagekeys import applied, empty_config
from torana.frontends.yaml.mounts import Mounts
from torana.frontends.yaml.packages import installation
from torana.frontends.yaml.resolving import Tree

_RAN: Final = "/dev/torana-ran"
_PATTERNS: Final = "file.copy.includeexcludepatterns"
_WILDCARDS: Final = frozenset("*?[")


@dataclass(slots=True, kw_only=True)
class Emitter:
    """Makes LLB of stages; `tree` gives trees from outside, `main` the main context."""

    options: BuildOptions
    caps: frozenset[str]
    target: Platform
    info: SourceInfo
    proxy: o.ProxyEnv | None
    main: Callable[[], State]
    trees: Mapping[tuple[m.Origin, Platform], Tree]
    used: Mapping[m.Origin, Sequence[str]]
    built: dict[str, Built] = field(default_factory=dict)
    shows_platform: bool = False
    _infos: dict[str, SourceInfo] = field(default_factory=dict)
    _states: dict[tuple[m.Origin, Platform], State] = field(default_factory=dict)
    _main: State | None = None

    def stage(self, stage: m.Stage) -> Built:
        """Build a stage whose origins are built."""
        found = self._begin(stage)
        found = self._set(
            found, stage.settings, stage.settings.place, f"{self._head(stage)}workdir"
        )
        total = len(stage.steps)
        for number, step in enumerate(stage.steps, 1):
            name = f"{self._head(stage, number, total)}{step.name}"
            try:
                found = self._step(found, stage, step, name)
            except UnsupportedError as err:
                mark = step.place.mark
                raise mark.error(err.message, hint=err.hint) from err
        config = applied(found.config, stage.image)
        self.built[stage.name] = replace(found, config=config)
        return self.built[stage.name]

    def location(self, marks: Sequence[Mark]) -> tuple[SourceLocation, ...]:
        """Give places for an op, the innermost first."""
        return tuple(SourceLocation(self._info(mark.file), mark.lines) for mark in marks)

    def _info(self, file: SourceFile) -> SourceInfo:
        if file.filename == self.info.filename:
            return self.info
        if file.filename not in self._infos:
            self._infos[file.filename] = SourceInfo(
                file.filename, file.data, file.language, file.definition or Definition()
            )
        return self._infos[file.filename]

    def _head(self, stage: m.Stage, number: int = 0, total: int = 0) -> str:
        platform = f"{self.target.format()} " if self.shows_platform else ""
        count = f" {number}/{total}" if number else ""
        return f"[{platform}{stage.name}{count}] "

    # Where stages begin.

    def _begin(self, stage: m.Stage) -> Built:
        if stage.origin is None:
            return self._merged(stage)
        origin = stage.origin
        if origin.kind is m.OriginKind.STAGE:
            base = self.built[origin.name]
            return replace(base, platform=stage.platform or base.platform, network=None)
        platform = self.platform_of(stage, origin)
        tree = self.outside(
            origin, platform, f"{self._head(stage)}from {origin.name}", stage.origin_mark
        )
        found = self.trees.get((origin, platform))
        config = (
            found.config
            if found is not None and found.config is not None
            else empty_config(platform)
        )
        inner = config.get("config") or {}
        env = dict(each.split("=", 1) for each in inner.get("Env") or () if "=" in each)
        begun = Built(
            tree=tree,
            platform=platform,
            env=env,
            workdir=absolute("/", inner.get("WorkingDir") or "/"),
            user=inner.get("User") or "",
            config=config,
            base_config=found.raw_config if found is not None else None,
        )
        return self._set(begun, stage.defaults, stage.defaults.place, f"{self._head(stage)}workdir")

    def _merged(self, stage: m.Stage) -> Built:
        platform = stage.platform or self.target
        name = f"{self._head(stage)}merge"
        location = self.location((stage.origin_mark,))
        trees = [self.tree(origin, platform, stage.origin_mark) for origin in stage.merged]
        first = stage.merged[0] if stage.merged else m.Origin(m.OriginKind.SCRATCH)
        if "mergeop" in self.caps:
            tree = merge(trees, custom_name=name, location=location)
        else:
            tree = trees[0] if trees else scratch()
            for other in trees[1:]:
                over = FileActions().copy(other, "/", "/", dir_copy_contents=True)
                tree = tree.file(over, custom_name=name, location=location)
        if first.kind is m.OriginKind.STAGE:
            base = self.built[first.name]
            return replace(base, tree=tree, platform=stage.platform or base.platform, network=None)
        found = self.trees.get((first, platform))
        config = (
            found.config
            if found is not None and found.config is not None
            else empty_config(platform)
        )
        return Built(tree=tree, platform=platform, config=config)

    def platform_of(self, stage: m.Stage, origin: m.Origin) -> Platform:
        """Give the platform that an image is wanted for."""
        return fields.platform_text(origin.platform) or stage.platform or self.target

    def outside(self, origin: m.Origin, platform: Platform, name: str, mark: Mark) -> State:
        """Give a tree that is no stage; one op for all that read it."""
        if origin.kind is m.OriginKind.SCRATCH:
            return scratch()
        if origin.kind is m.OriginKind.MAIN:
            if self._main is None:
                self._main = self.main()
            return self._main
        key = (origin, platform)
        if key not in self._states:
            used = self.used.get(origin, ())
            self._states[key] = self.trees[key].state(used, self.location((mark,)), name)
        return self._states[key]

    def tree(self, origin: m.Origin, platform: Platform, mark: Mark) -> State:
        if origin.kind is m.OriginKind.STAGE:
            return self.built[origin.name].tree
        return self.outside(origin, platform, f"[internal] {origin.name}", mark)

    # Steps.

    def _step(self, found: Built, stage: m.Stage, step: m.AnyStep, name: str) -> Built:
        shown: dict[str, Any] = {
            "custom_name": name,
            "location": self.location(step.place.marks),
            "ignore_cache": self.options.ignores_cache(stage.name),
        }
        match step:
            case m.Run():
                args = command(step, found.shell)
                return self._run(found, stage, args, step.process, shown, step)
            case m.Exec():
                return self._run(found, stage, step.args, step.process, shown, step)
            case m.Packages():
                return self._install(found, step, shown)
            case m.Copy():
                return self._copy(found, stage, step, shown)
            case m.Fetch():
                return self._changed(found, fetched(step, found.workdir, shown, self._need), shown)
            case m.Git():
                return self._changed(found, checked_out(step, found.workdir, shown), shown)
            case m.Write():
                path = absolute(found.workdir, step.path)
                made = parent(path).mkfile(
                    path,
                    step.content.encode(),
                    mode=0o644 if step.mode is None else step.mode,
                    owner=chown(step.owner),
                )
                return self._changed(found, made, shown)
            case m.MakeDirectory():
                actions = FileActions()
                for each in step.paths:
                    actions = actions.mkdir(
                        absolute(found.workdir, each),
                        mode=0o755 if step.mode is None else step.mode,
                        make_parents=True,
                        owner=chown(step.owner),
                    )
                return self._changed(found, actions, shown)
            case m.Remove():
                actions = FileActions()
                for each in step.paths:
                    actions = actions.then(
                        rm(
                            absolute(found.workdir, each),
                            allow_not_found=step.may_be_missing,
                            allow_wildcard=bool(_WILDCARDS & set(each)),
                        )
                    )
                return self._changed(found, actions, shown)
            case m.Symlink():
                self._need("file.symlink.create", "make links by itself", "write `run: ln -s`")
                path = absolute(found.workdir, step.path)
                return self._changed(found, parent(path).then(symlink(step.to, path)), shown)
            case m.Set():
                return self._set(found, step, step.place, shown["custom_name"])
            case _:
                assert_never(step)

    def _need(self, cap: str, what: str, hint: str) -> None:
        if cap not in self.caps:
            raise UnsupportedError(f"this engine cannot {what}", hint=hint)

    def _changed(self, found: Built, actions: FileActions, shown: Mapping[str, Any]) -> Built:
        return replace(found, tree=found.tree.file(actions, **shown))

    def _set(self, found: Built, changes: m.Set, place: m.Place, name: str) -> Built:
        env = changed(found.env, changes.env)
        after = replace(
            found,
            env=env,
            user=found.user if changes.user is None else changes.user,
            shell=changes.shell or found.shell,
            network=found.network if changes.network is None else changes.network,
        )
        if changes.workdir is None:
            return after
        workdir = absolute(found.workdir, changes.workdir)
        if workdir not in ("/", found.workdir):
            made = mkdir(workdir, mode=0o755, make_parents=True)
            location = self.location(place.marks)
            tree = after.tree.file(made, custom_name=f"{name} {workdir}", location=location)
            after = replace(after, tree=tree)
        return replace(after, workdir=workdir)

    def _run(
        self,
        found: Built,
        stage: m.Stage,
        args: Sequence[str],
        process: m.Process,
        shown: Mapping[str, Any],
        step: m.Step,
    ) -> Built:
        cwd = found.workdir if process.workdir is None else absolute(found.workdir, process.workdir)
        mounts = Mounts(
            cwd, found.platform, self.caps,
            lambda origin: self.tree(origin, found.platform, step.place.mark),
        )  # fmt: skip
        specs = mounts.of(process, stage.caches)
        if any(secret.env is not None for secret in process.secrets):
            self._need("exec.secretenv", "give secrets as variables", "read them from a file")
        if isinstance(step, m.Run) and step.script:
            main = self.outside(m.Origin(m.OriginKind.MAIN), found.platform, "", step.place.mark)
            specs.append(mounts.script(main, step.script))
        if self.options.shm_size_bytes and "exec.mount.tmpfs.size" in self.caps:
            specs.append(mounts.memory("/dev/shm", self.options.shm_size_bytes))
        ran = mounts.empty(_RAN) if process.has_readonly_root else None
        executed = self.exec(
            found,
            args,
            env=changed(found.env, process.env),
            cwd=cwd,
            user=found.user if process.user is None else process.user,
            network=process.network,
            security=o.SecurityMode.INSECURE if process.is_privileged else o.SecurityMode.SANDBOX,
            mounts=specs if ran is None else [*specs, ran],
            secrets=mounts.secrets(process),
            ssh=mounts.agents(process),
            readonly_root=process.has_readonly_root,
            **{**shown, "ignore_cache": shown["ignore_cache"] or process.ignores_cache},
        )
        if ran is None:
            return replace(found, tree=executed.root)
        # The step changes nothing, but must have run before what follows.
        after = FileActions().copy(
            executed.mount_state(ran), "/*", "/", allow_wildcard=True, allow_empty_wildcard=True
        )
        return self._changed(found, after, {**shown, "ignore_cache": False})

    def exec(
        self, found: Built, args: Sequence[str], *, env: Mapping[str, str],
        network: o.NetMode | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Run a process on a stage's tree, with what the options of the build say of processes."""
        limits, caps = self.options, self.caps
        chosen = next(
            (each for each in (network, found.network) if each is not None), limits.network
        )
        has_resources = "exec.meta.linux.resources" in caps
        variables = dict(env)
        variables.setdefault("PATH", DEFAULT_PATH)
        return State(found.tree.output).run(
            args,
            env=[f"{name}={value}" for name, value in variables.items()],
            network=chosen,
            hostname=limits.hostname,
            extra_hosts=limits.extra_hosts,
            ulimit=limits.ulimits if "exec.meta.ulimit" in caps else (),
            cgroup_parent=limits.cgroup_parent if "exec.meta.cgroup.parent" in caps else "",
            linux_resources=limits.resources if has_resources else None,
            proxy_env=self.proxy,
            remove_mount_stubs_recursive=True,
            platform=found.platform,
            **options,
        )

    def _install(self, found: Built, step: m.Packages, shown: Mapping[str, Any]) -> Built:
        job = installation(step)
        if job.files or job.downloads:
            actions = FileActions()
            for path, text in job.files.items():
                actions = actions.then(parent(path).mkfile(path, text.encode(), mode=0o644))
            for path, (url, checksum) in job.downloads.items():
                key = http(url, filename="key", checksum=checksum, custom_name=shown["custom_name"])
                actions = actions.copy(key, "/key", path, mode=0o644, create_dest_path=True)
            found = self._changed(found, actions, shown)
        mounts = Mounts("/", found.platform, self.caps, lambda _: scratch())
        caches = [m.CacheMount(target=path, sharing=o.CacheSharing.LOCKED) for path in job.caches]
        executed = self.exec(
            found,
            ("/bin/sh", "-ec", job.script),
            env={**found.env, **job.env},
            cwd="/",
            user="root",
            mounts=mounts.of(m.Process(), caches),
            **shown,
        )
        return replace(found, tree=executed.root)

    def _copy(self, found: Built, stage: m.Stage, step: m.Copy, shown: Mapping[str, Any]) -> Built:
        if step.exclude or step.keeps_parents:
            self._need(_PATTERNS, "leave out parts of a copy", "copy all")
        platform = self.platform_of(stage, step.origin)
        source = self.tree(step.origin, platform, step.place.mark)
        actions = FileActions()
        to = destination(found.workdir, step.to)
        for text in step.sources:
            path = absolute("/", text)
            include: tuple[str, ...] = ()
            if step.keeps_parents:
                path, include = "/", (path.lstrip("/"),)
            actions = actions.copy(
                source,
                path,
                to,
                owner=chown(step.owner),
                mode=step.mode,
                exclude=step.exclude,
                include=include,
                create_dest_path=True,
                follow_symlink=step.follows_links,
                dir_copy_contents=True,
                allow_wildcard=True,
                allow_empty_wildcard=True,
                attempt_unpack=step.unpacks,
            )
        is_named = step.owner is not None and (
            isinstance(step.owner.user, str) or isinstance(step.owner.group, str)
        )
        if not step.is_link or is_named or "mergeop" not in self.caps:
            return self._changed(found, actions, shown)
        layer = scratch().file(actions, **shown)
        return replace(found, tree=merge((found.tree, layer), **shown))


def changed(env: Mapping[str, str], changes: m.Env) -> dict[str, str]:
    """Give an environment with changes: None takes a variable away."""
    merged = {**env, **changes}
    return {name: value for name, value in merged.items() if value is not None}
