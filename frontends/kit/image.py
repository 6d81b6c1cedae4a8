"""`Image`: a file tree together with the config of the image that it becomes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Final

from torana.core.llb.actions import FileActions, mkdir, mkfile, owner
from torana.core.llb.ops import CacheSharing, CDIDevice, ChownOpt, MountType, NetMode, SecurityMode
from torana.core.llb.places import current_location
from torana.core.llb.state import State, scratch
from torana.core.llb.vertices import MountSpec, SecretSpec, SSHSpec
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.stepsettings import StepSettings

_SHELL: Final = ("/bin/sh", "-c")
_NAME_LENGTH: Final = 120  # characters of a vertex' name that come from the build file


@dataclass(frozen=True, slots=True)
class Image:
    """A tree and an image config in the making; methods give new ones.

    What processes see (variables, folder, user) is what containers of the image will see.
    """

    state: State
    config: ImageConfig
    settings: StepSettings = field(default_factory=StepSettings)
    base_config: bytes | None = None  # of the image of a registry that it began with, as JSON

    @classmethod
    def scratch(cls, platform: Platform) -> Image:
        """Give an empty tree, and the config that an image of nothing has."""
        return cls.of(scratch(), ImageConfig.empty(platform))

    @classmethod
    def of(cls, state: State, config: ImageConfig) -> Image:
        """Give a tree with a config; processes inherit what that says."""
        for name, value in config.env:
            state = state.env(name, value)
        state = state.dir(str(config.config.get("WorkingDir") or "/"))
        return cls(state.user(str(config.config.get("User") or "")), config)

    # The tree.

    def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        mounts: Sequence[MountSpec] = (),
        secrets: Sequence[SecretSpec] = (),
        ssh: Sequence[SSHSpec] = (),
        network: NetMode | None = None,
        security: SecurityMode | None = None,
        devices: Sequence[CDIDevice] = (),
        ignore_cache: bool = False,
        name: str = "",
    ) -> Image:
        """Run a command: words, or a text for the image's shell."""
        shell = self.config.config.get("Shell") or _SHELL
        args = [*shell, command] if isinstance(command, str) else list(command)
        state = self.state
        for variable, value in (env or {}).items():
            state = state.env(variable, value)
        ran = state.run(
            args,
            mounts=self.settings.mounts(mounts),
            secrets=secrets,
            ssh=ssh,
            network=network,
            security=security,
            devices=devices,
            ignore_cache=ignore_cache or self.settings.ignore_cache,
            linux_resources=self.settings.resources,
            custom_name=name or _written(),
        )
        return self._with_tree(ran.root)

    def copy(
        self,
        source: Image | State,
        src: str | Sequence[str] = "/",
        dest: str = "./",
        *,
        chown: str = "",
        mode: int | None = None,
        contents: bool = True,
        required: bool = True,
        name: str = "",
    ) -> Image:
        """Copy out of another tree; a relative `dest` is below the working folder.

        With `contents` a folder's contents are copied, not the folder; `src` may have wildcards.
        """
        tree = source.state if isinstance(source, Image) else source
        to = self._path(dest)
        actions = FileActions()
        for path in (src,) if isinstance(src, str) else src:
            actions = actions.copy(
                tree,
                posixpath.join("/", path),
                to,
                mode=mode,
                owner=_owner(chown),
                dir_copy_contents=contents,
                create_dest_path=True,
                allow_wildcard=True,
                allow_empty_wildcard=not required,
                follow_symlink=True,
            )
        return self.with_files(actions, name=name)

    def write(self, path: str, data: str | bytes, *, mode: int = 0o644, name: str = "") -> Image:
        """Write a file; folders above it are made."""
        to = self._path(path)
        data = data.encode() if isinstance(data, str) else data
        folder = posixpath.dirname(to)
        time = self.settings.timestamp_ns
        actions = mkfile(to, data, mode=mode, timestamp_ns=time)
        if folder != "/":
            made = mkdir(folder, mode=0o755, make_parents=True, timestamp_ns=time)
            actions = made.then(actions)
        return self.with_files(actions, name=name)

    def with_files(self, actions: FileActions, *, name: str = "") -> Image:
        """Apply file actions, as one op."""
        state = self.state.file(
            actions, ignore_cache=self.settings.ignore_cache, custom_name=name or _written()
        )
        return self._with_tree(state)

    # The config, and what later processes see.

    def env(self, name: str, value: str) -> Image:
        return self._configured(lambda c: c.set_env(name, value), self.state.env(name, value))

    def workdir(self, path: str) -> Image:
        """Set the working folder; a relative one is below the present one."""
        to = self._path(path)
        return self._configured(lambda c: c.config.update(WorkingDir=to), self.state.dir(to))

    def user(self, user: str) -> Image:
        return self._configured(lambda c: c.config.update(User=user), self.state.user(user))

    def label(self, name: str, value: str) -> Image:
        labels = {**(self.config.config.get("Labels") or {}), name: value}
        return self._configured(lambda c: c.config.update(Labels=labels))

    def entrypoint(self, command: str | Sequence[str]) -> Image:
        """Set what containers run; a command of the base is forgotten."""
        args = self._args(command)
        return self._configured(lambda c: c.config.update(Entrypoint=args, Cmd=None))

    def cmd(self, command: str | Sequence[str]) -> Image:
        """Set the arguments of the entry point, or what is run without one."""
        args = self._args(command)
        return self._configured(lambda c: c.config.update(Cmd=args))

    def expose(self, port: str) -> Image:
        """Say that containers listen; `port` is `80` or `53/udp`."""
        full = port if "/" in port else f"{port}/tcp"
        ports = {**(self.config.config.get("ExposedPorts") or {}), full: {}}
        return self._configured(lambda c: c.config.update(ExposedPorts=ports))

    def _configured(
        self, change: Callable[[ImageConfig], None], state: State | None = None
    ) -> Image:
        config = self.config.copy()
        change(config)
        return replace(self, state=self.state if state is None else state, config=config)

    def _with_tree(self, state: State) -> Image:
        return replace(self, state=self.state.with_output(state.output))

    def _args(self, command: str | Sequence[str]) -> list[str]:
        if isinstance(command, str):
            return [*(self.config.config.get("Shell") or _SHELL), command]
        return list(command)

    def _path(self, path: str) -> str:
        """Make a path absolute; a slash at its end stays, since that asks for a folder."""
        full = posixpath.normpath(posixpath.join(self.state.inherited.cwd, path))
        return f"{full}/" if path.endswith(("/", "/.")) and full != "/" else full


def cache_mount(target: str, id: str = "", *, is_private: bool = False) -> MountSpec:
    """Give a folder that stays from build to build, for `run`."""
    sharing = CacheSharing.PRIVATE if is_private else CacheSharing.SHARED
    return MountSpec(target=target, type=MountType.CACHE, cache_id=id or target, sharing=sharing)


def bind_mount(target: str, source: Image | State, selector: str = "") -> MountSpec:
    """Give another tree to read, for `run`."""
    tree = source.state if isinstance(source, Image) else source
    return MountSpec(target=target, source=tree.output, selector=selector, readonly=True)


def _owner(text: str) -> ChownOpt | None:
    if not text:
        return None
    user, _, group = text.partition(":")
    return owner(_who(user), _who(group) if group else None)


def _who(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _written() -> str:
    """Give the first line of what is being worked on, as the name of a vertex."""
    for location in current_location():
        for span in location.ranges:
            lines = location.info.data.decode("utf-8", "replace").splitlines()
            if not 1 <= span.start.line <= len(lines):
                return ""
            end = span.end.column if span.end.line == span.start.line else 0
            line = lines[span.start.line - 1]
            text = line[max(0, span.start.column - 1) : end - 1 if end else None].strip()
            return text if len(text) <= _NAME_LENGTH else f"{text[:_NAME_LENGTH]}..."
    return ""
