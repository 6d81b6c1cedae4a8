"""Every golden definition, taken apart and built again with the builder, is equal byte for byte."""

from __future__ import annotations

from typing import Any

from torana.core.errors import SourceRange
from torana.core.llb import ops as o
from torana.core.llb.actions import FileActions
from torana.core.llb.caps import LLB_CAPS, SETS_DEFAULT_PATH
from torana.core.llb.codec import decode
from torana.core.llb.definition import Definition, SourceInfo
from torana.core.llb.marshal import marshal
from torana.core.llb.state import ExecState, State, git, http, image, local, merge, oci_layout
from torana.core.llb.vertices import (
    ActionSpec,
    MountSpec,
    Output,
    SecretSpec,
    SourceLocation,
    SSHSpec,
    Target,
)
from torana.core.oci.image import DEFAULT_PATH
from torana.core.oci.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")


class Rebuilder:
    """Builds states from ops by asking the public builder for the same things."""

    def __init__(self, solve: Any) -> None:
        self.solve = solve
        self.rows = {row.digest: row for row in solve.ops}
        self.states: dict[str, State] = {}
        self.execs: dict[str, tuple[ExecState, tuple[MountSpec, ...]]] = {}
        self.infos: dict[int, SourceInfo] = {}

    def state(self, item: o.Input) -> State:
        if item.digest in self.execs:
            process, specs = self.execs[item.digest]
            candidates = [process.root, *(process.mount_state(spec) for spec in specs)]
            return next(
                s
                for s in candidates
                if s.output is not None
                and s.output.vertex is process.vertex
                and s.output.index == item.index
            )
        return self.states[item.digest]

    def build(self) -> Definition:
        *rows, terminal = self.solve.ops
        for row in rows:
            op = decode(o.Op, row.data)
            options = self.options(row, op)
            match op.kind:
                case o.SourceOp():
                    self.states[row.digest] = self.source(op.kind, options)
                case o.ExecOp():
                    self.execs[row.digest] = self.process(op, op.kind, row, options)
                case o.FileOp():
                    self.states[row.digest] = self.file(op, op.kind, options)
                case o.MergeOp():
                    parts = [self.state(op.inputs[item.input]) for item in op.kind.inputs]
                    self.states[row.digest] = merge(parts, **options)
                case _:
                    raise AssertionError(f"unexpected op {op}")
        result = self.state(decode(o.Op, terminal.data).inputs[0])
        return result.marshal(platform=AMD64, caps=LLB_CAPS - self.solve.missing_caps)

    def options(self, row: Any, op: o.Op) -> dict[str, Any]:
        metadata = row.metadata
        description = dict(metadata.get("description") or {})
        group = metadata.get("progress_group")
        resources = metadata.get("linux_resources")
        export = metadata.get("export_cache")
        places = []
        for source, lines in row.locations:
            info = self.infos.setdefault(source, SourceInfo(f"source-{source}"))
            ranges = tuple(SourceRange.lines(info.filename, a, b) for a, b in lines)
            places.append(SourceLocation(info, ranges))
        return {
            "custom_name": description.pop("llb.customname", ""),
            "description": description,
            "ignore_cache": bool(metadata.get("ignore_cache")),
            "export_cache": None if export is None else bool(export.get("Value")),
            "progress_group": group and o.ProgressGroup(**group),
            "linux_resources": resources
            and o.LinuxResources(
                memory=int(resources.get("memory", 0)),
                memory_swap=int(resources.get("memorySwap", 0)),
                cpu_shares=int(resources.get("cpuShares", 0)),
                cpu_period=int(resources.get("cpuPeriod", 0)),
                cpu_quota=int(resources.get("cpuQuota", 0)),
                cpuset_cpus=resources.get("cpusetCpus", ""),
                cpuset_mems=resources.get("cpusetMems", ""),
            ),
            "location": places,
            "platform": op.platform,
        }

    def source(self, op: o.SourceOp, options: dict[str, Any]) -> State:
        scheme, _, rest = op.identifier.partition("://")
        attrs = dict(op.attrs)

        def flag(name: str) -> bool:
            return attrs.pop(name, "") == "true"

        def listed(name: str) -> list[str]:
            import json

            values: list[str] = json.loads(attrs.pop(name, "[]"))
            return values

        match scheme:
            case "docker-image":
                mode = attrs.pop("image.resolvemode", "")
                made = image(rest, resolve_mode=mode, **options)
            case "oci-layout":
                made = oci_layout(
                    rest,
                    session_id=attrs.pop("oci.session", ""),
                    store_id=attrs.pop("oci.store", ""),
                    **options,
                )
            case "local":
                made = local(
                    rest,
                    session_id=attrs.pop("local.session", ""),
                    include=listed("local.includepattern"),
                    exclude=listed("local.excludepatterns"),
                    follow_paths=listed("local.followpaths"),
                    shared_key_hint=attrs.pop("local.sharedkeyhint", ""),
                    differ_none=attrs.pop("local.differ", "") == "none",
                    **options,
                )
            case "git":
                remote, _, fragment = rest.partition("#")
                ref, _, subdir = fragment.partition(":")
                assert attrs.pop("git.authheadersecret") == "GIT_AUTH_HEADER"
                assert attrs.pop("git.authtokensecret") == "GIT_AUTH_TOKEN"
                made = git(
                    remote,
                    ref=ref,
                    subdir=subdir,
                    url=attrs.pop("git.fullurl", ""),
                    keep_git_dir=flag("git.keepgitdir"),
                    checksum=attrs.pop("git.checksum", ""),
                    skip_submodules=flag("git.skipsubmodules"),
                    mtime=attrs.pop("git.mtime", ""),
                    fetch_by_commit=flag("git.fetchbycommit"),
                    known_ssh_hosts=attrs.pop("git.knownsshhosts", ""),
                    mount_ssh_sock=attrs.pop("git.mountsshsock", ""),
                    **options,
                )
            case "http" | "https":
                made = http(
                    op.identifier,
                    filename=attrs.pop("http.filename", ""),
                    checksum=attrs.pop("http.checksum", ""),
                    **options,
                )
            case _:
                raise AssertionError(op.identifier)
        assert not attrs, f"the builder has no word for {attrs}"
        return made

    def process(
        self, op: o.Op, kind: o.ExecOp, row: Any, options: dict[str, Any]
    ) -> tuple[ExecState, tuple[MountSpec, ...]]:
        specs: list[MountSpec] = []
        secrets = [SecretSpec(id=s.id, env=s.name, optional=s.optional) for s in kind.secret_env]
        agents = []
        base = State()
        read_only = False
        for mount in kind.mounts:
            tree = None if mount.input < 0 else self.state(op.inputs[mount.input])
            if mount.dest == "/":
                base = tree or base
                read_only = mount.readonly
            elif mount.secret_opt is not None:
                s = mount.secret_opt
                secrets.append(
                    SecretSpec(
                        id=s.id,
                        target=mount.dest,
                        uid=s.uid,
                        gid=s.gid,
                        mode=s.mode,
                        optional=s.optional,
                    )
                )
            elif mount.ssh_opt is not None:
                h = mount.ssh_opt
                agents.append(
                    SSHSpec(
                        id=h.id,
                        target=mount.dest,
                        uid=h.uid,
                        gid=h.gid,
                        mode=h.mode,
                        optional=h.optional,
                    )
                )
            else:
                specs.append(
                    MountSpec(
                        target=mount.dest,
                        source=None if tree is None else tree.output,
                        selector=mount.selector,
                        readonly=mount.readonly,
                        no_output=mount.output < 0,
                        type=mount.mount_type,
                        tmpfs_size=mount.tmpfs_opt.size if mount.tmpfs_opt else 0,
                        cache_id=mount.cache_opt.id if mount.cache_opt else "",
                        sharing=mount.cache_opt.sharing
                        if mount.cache_opt
                        else o.CacheSharing.SHARED,
                    )
                )
        assert kind.meta is not None
        meta = kind.meta
        env = [entry for entry in meta.env if not (agents and entry.startswith("SSH_AUTH_SOCK="))]
        sets_path = SETS_DEFAULT_PATH in row.metadata["caps"]
        if SETS_DEFAULT_PATH in self.solve.missing_caps and f"PATH={DEFAULT_PATH}" in env:
            env.remove(f"PATH={DEFAULT_PATH}")
            sets_path = True
        process = base.run(
            meta.args,
            env=env,
            cwd=meta.cwd,
            user=meta.user,
            hostname=meta.hostname,
            network=kind.network,
            security=kind.security,
            extra_hosts=meta.extra_hosts,
            ulimit=meta.ulimit,
            cgroup_parent=meta.cgroup_parent,
            proxy_env=meta.proxy_env,
            valid_exit_codes=meta.valid_exit_codes,
            remove_mount_stubs_recursive=meta.remove_mount_stubs_recursive,
            mounts=sorted(specs, key=_target, reverse=True),  # only order of equal targets counts
            secrets=secrets,
            ssh=agents,
            devices=kind.cdi_devices,
            readonly_root=read_only,
            sets_path=sets_path,
            **options,
        )
        return process, tuple(specs)

    def file(self, op: o.Op, kind: o.FileOp, options: dict[str, Any]) -> State:
        first = kind.actions[0].input
        base = State() if first < 0 else self.state(op.inputs[first])
        chain = FileActions()
        for action in kind.actions:
            source: Output | None = None
            if action.secondary_input >= 0:
                source = self.state(op.inputs[action.secondary_input]).output
            assert action.action is not None
            chain = FileActions((*chain.specs, ActionSpec(action.action, source)))
        options["platform"] = None
        return base.file(chain, **options)


def _target(spec: MountSpec) -> str:
    return spec.target


def test_rebuilt_definitions_are_equal(solves: Any) -> None:
    assert len(solves) > 200
    for solve in solves:
        made = Rebuilder(solve).build()
        where = f"{solve.case} #{solve.index}"
        assert [str(d) for d in made.digests()] == [row.digest for row in solve.ops], where
        assert made.ops == tuple(row.data for row in solve.ops), where


def test_rebuilt_metadata_is_equal(solves: Any) -> None:
    for solve in solves:
        made = Rebuilder(solve).build()
        for row in solve.ops:
            metadata = made.metadata[row.digest]
            where = f"{solve.case} #{solve.index} {row.digest}"
            assert dict(metadata.caps) == (row.metadata.get("caps") or {}), where
            assert dict(metadata.description) == (row.metadata.get("description") or {}), where
            assert metadata.ignore_cache == bool(row.metadata.get("ignore_cache")), where
            group = row.metadata.get("progress_group")
            assert metadata.progress_group == (group and o.ProgressGroup(**group)), where


def test_rebuilt_locations_are_equal(solves: Any) -> None:
    for solve in solves:
        made = Rebuilder(solve).build()
        assert made.source is not None
        for row in solve.ops:
            found = made.source.locations.get(row.digest)
            places = () if found is None else found.locations
            got = [
                (
                    made.source.infos[place.source_index].filename,
                    tuple((r.start.line, r.end.line) for r in place.ranges),
                )
                for place in places
            ]
            wanted = [(f"source-{index}", lines) for index, lines in row.locations]
            assert got == wanted, f"{solve.case} #{solve.index} {row.digest}"


def test_marshal_takes_the_platform_of_the_target_when_none_is_named() -> None:
    arm = Platform(os="linux", architecture="arm64")
    output = image("docker.io/library/alpine:latest").output
    assert output is not None
    made = marshal(output, Target(arm, LLB_CAPS))
    assert decode(o.Op, made.ops[0]).platform == arm
