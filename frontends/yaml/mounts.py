"""Mounts of processes: caches, binds, memory, secrets, agents, scripts."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

from torana.core.llb import ops as o
from torana.core.llb.state import State, copy, mkdir, owner, scratch
from torana.core.llb.vertices import MountSpec, SecretSpec, SSHSpec
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.yaml import model as m

_SCRIPTS: Final = "/dev/torana-script"  # leaves no trace: /dev is not part of the tree
_FOLDER: Final = "[internal] folder of a step"
_CACHE: Final = "[internal] setting cache mount permissions"


@dataclass(frozen=True, slots=True)
class Mounts:
    """Makes mounts of one process; relative targets are below `cwd`."""

    cwd: str
    platform: Platform
    caps: frozenset[str]
    tree: Callable[[m.Origin], State]

    def of(self, process: m.Process, inherited: Sequence[m.CacheMount]) -> list[MountSpec]:
        """Give caches, binds and memory; a cache of the step hides one of the stage."""
        caches = {self._target(cache.target): cache for cache in (*inherited, *process.caches)}
        return [
            *(self._cache(cache) for cache in caches.values()),
            *(self._bind(bind) for bind in process.binds),
            *(self.memory(each.target, each.size_bytes) for each in process.memories),
        ]

    def memory(self, target: str, size_bytes: int) -> MountSpec:
        return MountSpec(target=self._target(target), type=o.MountType.TMPFS, tmpfs_size=size_bytes)

    def empty(self, target: str) -> MountSpec:
        """Give an empty folder that anybody can write to, and that is read later."""
        made = scratch().file(mkdir("/out"), custom_name=_FOLDER)
        # Old engines apply their umask to `mkdir`, but not to a copy.
        opened = scratch().file(copy(made, "/out", "/", mode=0o777), custom_name=_FOLDER)
        return MountSpec(target=target, source=opened.output, selector="/out")

    def script(self, main: State, path: str) -> MountSpec:
        """Show a file of the main context."""
        source = posixpath.normpath(posixpath.join("/", path))
        target = self.script_path(path)
        return MountSpec(target=target, source=main.output, selector=source, readonly=True)

    @staticmethod
    def script_path(path: str) -> str:
        return f"{_SCRIPTS}/{posixpath.basename(posixpath.normpath(path))}"

    def secrets(self, process: m.Process) -> list[SecretSpec]:
        return [
            SecretSpec(
                id=each.id,
                target=self._target(each.target) if each.target else "",
                env=each.env,
                uid=each.uid,
                gid=each.gid,
                mode=each.mode,
                optional=each.is_optional,
            )
            for each in process.secrets
        ]

    def agents(self, process: m.Process) -> list[SSHSpec]:
        return [
            SSHSpec(
                id=each.id,
                target=self._target(each.target) if each.target else "",
                mode=each.mode,
                optional=each.is_optional,
            )
            for each in process.agents
        ]

    def _target(self, path: str) -> str:
        return posixpath.normpath(posixpath.join("/", self.cwd, path))

    def _bind(self, bind: m.BindMount) -> MountSpec:
        source = posixpath.normpath(posixpath.join("/", bind.source))
        return MountSpec(
            target=self._target(bind.target),
            source=self.tree(bind.origin).output,
            selector="" if source == "/" else source,
            readonly=not bind.is_writable,
            no_output="exec.mount.bind.readwrite-nooutput" in self.caps,
        )

    def _cache(self, cache: m.CacheMount) -> MountSpec:
        target = self._target(cache.target)
        tree = scratch() if cache.origin is None else self.tree(cache.origin)
        source = posixpath.normpath(posixpath.join("/", cache.source))
        selector = "" if source == "/" else source
        if (cache.mode, cache.uid, cache.gid) != (None, None, None) and cache.origin is None:
            mode = 0o755 if cache.mode is None else cache.mode
            made = mkdir("/cache", mode=mode, owner=owner(cache.uid or 0, cache.gid or 0))
            tree, selector = tree.file(made, custom_name=_CACHE), "/cache"
        return MountSpec(
            target=target,
            source=tree.output,
            selector=selector,
            type=o.MountType.CACHE,
            cache_id=self._id(cache, target),
            sharing=cache.sharing,
        )

    def _id(self, cache: m.CacheMount, target: str) -> str:
        name = cache.id or f"path-{sha256(target.encode()).hexdigest()[:16]}"
        return f"{name}-{self.platform.format()}" if cache.per_platform else name
