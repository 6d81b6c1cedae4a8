"""What a worker lends to its steps."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import field
from pathlib import Path
from typing import Protocol

from torana.core.cache.ref import RefStore
from torana.core.ops.exec.caches import CacheMounts
from torana.core.ops.exec.cdi import Devices
from torana.core.ops.exec.folder import ExecutorFolder
from torana.core.ops.exec.limits import StepLimits
from torana.core.ops.exec.logs import LogLimits
from torana.core.ops.exec.network_files import DNSConfig
from torana.core.ops.exec.networks import NetworkProvider
from torana.core.ops.exec.traces import StepTraces
from torana.core.ops.runtime import Runtime
from torana.core.records import dataclass


class SecretProvider(Protocol):
    """Gives secrets of the build's sessions."""

    async def get(self, id: str) -> bytes | None:
        """Give the value, None where no session knows it."""
        ...


class SSHProvider(Protocol):
    """Forwards agents of the build's sessions."""

    def forward(self, id: str, socket: Path) -> AbstractAsyncContextManager[bool]:
        """Listen on the new socket `socket` while entered; False (and no socket): no such agent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StepServices:
    """The parts that all steps of a worker use.

    `network` is for steps that ask for none in particular; without one they share the host's,
    which is what BuildKit falls back to without CNI.
    """

    refs: RefStore
    runtime: Runtime
    folder: ExecutorFolder
    caches: CacheMounts
    secrets: SecretProvider | None = None
    ssh: SSHProvider | None = None
    dns: DNSConfig | None = None
    log_limits: LogLimits = field(default_factory=LogLimits)
    limits: StepLimits = field(default_factory=StepLimits)
    devices: Devices = field(default_factory=Devices)
    apparmor_profile: str = ""
    cgroup_parent: str = ""  # of steps that name none
    has_selinux: bool = False  # steps get labels
    network: NetworkProvider | None = None
    traces: StepTraces | None = None  # a collector is there for spans of steps
