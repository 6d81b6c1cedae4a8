"""runc: the reference runtime; manages cgroups of both versions."""

from __future__ import annotations

from functools import cached_property

from torana.core.snapshots.namespace import is_mapped_user
from torana.plugins.runtimes import seccomp
from torana.plugins.runtimes.capabilities import known_capabilities
from torana.plugins.runtimes.cgroups import has_controller, has_pure_cgroup2
from torana.plugins.runtimes.oci import OCIRuntime
from torana.plugins.runtimes.spec import CAPABILITIES, HostTraits


class RuncRuntime(OCIRuntime):
    """Half of its time goes into compiling the seccomp profile; it takes no finished filter."""

    name = "runc"

    def traits(self) -> HostTraits:
        return self._traits

    @cached_property
    def _traits(self) -> HostTraits:
        is_rootless = is_mapped_user()
        return HostTraits(
            has_cgroup2=has_pure_cgroup2(),
            manages_cgroups=not is_rootless,
            limits_pids=has_controller("pids"),
            is_rootless=is_rootless,
            seccomp=seccomp.profile(frozenset(CAPABILITIES)),
            capabilities=known_capabilities(),
        )
