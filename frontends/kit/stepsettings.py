"""`StepSettings`: how the steps of an image run, as the options of the build say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torana.core.llb.ops import LinuxResources, MountType
from torana.core.llb.vertices import MountSpec
from torana.core.records import dataclass
from torana.frontends.kit.options import BuildOptions

_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """What processes and file operations of an image get beside what they ask for."""

    ignore_cache: bool = False
    shm_size_bytes: int = 0  # 0: as the engine has it
    resources: LinuxResources | None = None
    cache_namespace: str = ""  # keeps cache mounts of different users apart
    epoch: int | None = None  # seconds since the Unix epoch: the time of files that are written

    @classmethod
    def of(
        cls, options: BuildOptions, caps: frozenset[str], epoch: int | None, target: str
    ) -> StepSettings:
        """Give those of the target of that name on an engine with `caps`."""
        has_shm = "exec.mount.tmpfs.size" in caps
        has_resources = "exec.meta.linux.resources" in caps
        return cls(
            ignore_cache=options.ignores_cache(target.lower()),
            shm_size_bytes=options.shm_size_bytes if has_shm else 0,
            resources=options.resources if has_resources else None,
            cache_namespace=options.build_args.get(_NAMESPACE, ""),
            epoch=epoch,
        )

    @property
    def timestamp_ns(self) -> int | None:
        return None if self.epoch is None else self.epoch * 1_000_000_000

    def mounts(self, given: Sequence[MountSpec]) -> list[MountSpec]:
        """Give the mounts of a process."""
        found = [self._named_apart(mount) for mount in given]
        if self.shm_size_bytes and not any(mount.target == _SHM for mount in given):
            size = self.shm_size_bytes
            found.append(MountSpec(target=_SHM, type=MountType.TMPFS, tmpfs_size=size))
        return found

    def _named_apart(self, mount: MountSpec) -> MountSpec:
        if mount.type is not MountType.CACHE or not self.cache_namespace:
            return mount
        return replace(mount, cache_id=f"{self.cache_namespace}/{mount.cache_id}")


_SHM = "/dev/shm"
