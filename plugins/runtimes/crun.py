"""crun: small and quick; it takes the seccomp filter ready-made.

It refuses machines on which both versions of cgroups are mounted. There it runs beside a pure
cgroup2, mounted for it alone, with cgroups disabled; what it would have limited by a cgroup is
limited by groups of version 1 that it is started in.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torana.core.ops.runtime import ContainerSpec, RuntimeFailedError
from torana.core.snapshots.namespace import is_mapped_user
from torana.plugins.runtimes import seccomp
from torana.plugins.runtimes.capabilities import known_capabilities
from torana.plugins.runtimes.cgroups import (
    can_limit,
    device_cgroup,
    has_controller,
    has_pure_cgroup2,
    step_groups,
)
from torana.plugins.runtimes.launcher import Surroundings
from torana.plugins.runtimes.oci import OCIRuntime
from torana.plugins.runtimes.spec import CAPABILITIES, HostTraits

_FILTER_ANNOTATION = "run.oci.seccomp_bpf_data"


class CrunRuntime(OCIRuntime):
    """Preferred: a third of runc's price."""

    name = "crun"
    log_format = "text"  # it says in the step's own output, too, why a program cannot be executed

    def traits(self) -> HostTraits:
        return self._traits

    def flags(self) -> Sequence[str]:
        return ("--cgroup-manager=cgroupfs",) if self._manages else ("--cgroup-manager=disabled",)

    def keeps_limits(self) -> bool:
        return not self._is_rootless or (has_pure_cgroup2() and can_limit())

    def surroundings(self, spec: ContainerSpec) -> Surroundings:
        if self._manages:
            return Surroundings()
        if self._is_rootless:
            if has_pure_cgroup2():
                return Surroundings(own_groups=step_groups(spec))
            return Surroundings(cgroup2=True)
        shared = None if spec.insecure else self._device_cgroup
        return Surroundings(
            cgroup2=True,
            device_cgroup=None if spec.devices else shared,  # those have a group of their own
            own_groups=step_groups(spec),
        )

    @cached_property
    def _is_rootless(self) -> bool:
        return is_mapped_user()

    @cached_property
    def _manages(self) -> bool:
        return has_pure_cgroup2() and not self._is_rootless

    @cached_property
    def _device_cgroup(self) -> Path:
        try:
            group = device_cgroup()
        except OSError as err:
            raise RuntimeFailedError(f"crun: devices cannot be limited: {err}") from err
        if group is None:
            raise RuntimeFailedError("crun: devices cannot be limited: no devices cgroup")
        return group

    @cached_property
    def _traits(self) -> HostTraits:
        capabilities = frozenset(CAPABILITIES)
        compiled = seccomp.compile_profile(capabilities)
        profile: dict[str, Any] | None = seccomp.profile(capabilities)
        annotations = None
        if compiled is not None and profile is not None:
            # The profile must be there for the filter to be looked at, but nothing is read of it.
            annotations = {_FILTER_ANNOTATION: base64.b64encode(compiled).decode()}
            profile = {"defaultAction": "SCMP_ACT_ERRNO"}
        return HostTraits(
            has_cgroup2=True,
            manages_cgroups=self._manages,
            limits_pids=has_controller("pids"),
            is_rootless=self._is_rootless,
            seccomp=profile,
            annotations=annotations,
            capabilities=known_capabilities(),
        )
