"""What a daemon says of itself: its worker, its version.

Spec: wire reference, control, "Workers and version".
"""

from __future__ import annotations

import os
import secrets
import socket
import string
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from torana import __version__
from torana.core.oci.platform import Platform, parse_platform
from torana.core.records import dataclass
from torana.core.worker import Worker
from torana.gateway.daemon.config import WorkerConfig
from torana.gateway.engines.facts import LABELS, facts
from torana.gateway.engines.network import LazyNetwork
from torana.plugins.manager import PluginManager

PACKAGE: Final = "torana"
VERSION: Final = f"v{__version__}"
_LABEL: Final = "org.mobyproject.buildkit.worker."
# Micro-architecture levels of x86-64, by what Linux calls their features.
_AMD64_LEVELS: Final = {
    "v2": frozenset("cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3".split()),
    "v3": frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split()),
    "v4": frozenset("avx512f avx512bw avx512cd avx512dq avx512vl".split()),
}
_ID_LETTERS: Final = string.digits + string.ascii_lowercase


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The worker as clients see it; its first platform is the default one."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[Platform] = ()

    def field(self, name: str) -> str | None:
        """Give a field for filters: `id`, or `labels.NAME`; None where it is absent."""
        if name == "id":
            return self.id
        return self.labels.get(name.removeprefix("labels."))


def identify(worker: Worker, config: WorkerConfig) -> Identity:
    """Describe `worker` without trying anything; its id is the same after a restart.

    Raises:
        InvalidPlatformError: a configured platform cannot be read.
    """
    platforms = [parse_platform(text) for text in config.platforms]
    if not platforms:
        platforms = [worker.platform, *_also_native(worker.platform, _cpu_flags())]
    labels = {
        f"{_LABEL}executor": "oci",
        f"{_LABEL}hostname": socket.gethostname(),
        f"{_LABEL}oci.process-mode": "sandbox",
        f"{_LABEL}selinux.enabled": "true" if worker.has_selinux else "false",
        f"{_LABEL}snapshotter": _snapshotter(worker),
        **config.labels,
    }
    return Identity(id=_worker_id(worker.root), labels=labels, platforms=platforms)


async def in_force(identity: Identity, worker: Worker, config: WorkerConfig) -> Identity:
    """Add what steps run with, and why, as it has turned out."""
    assert isinstance(worker.network, LazyNetwork)
    wanted = config.runtime_name or os.environ.get("TORANA_RUNTIME", "")
    found = await facts(worker, worker.network, PluginManager(), runtime=wanted)
    network = found["Network"].split()[0] if config.network == "auto" else config.network
    labels = {
        **{LABELS[name]: text for name, text in found.items()},
        **identity.labels,
        f"{_LABEL}network": network,
        **config.labels,
    }
    return replace(identity, labels=labels)


def _also_native(platform: Platform, flags: frozenset[str]) -> list[Platform]:
    """Give what this processor runs besides its own platform, better variants first."""
    if (platform.os, platform.architecture) != ("linux", "amd64"):
        return []
    found = []
    for variant, needed in _AMD64_LEVELS.items():
        if not needed <= flags:
            break
        found.append(Platform(os="linux", architecture="amd64", variant=variant))
    return [*found, Platform(os="linux", architecture="386")]


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def _snapshotter(worker: Worker) -> str:
    name = worker.choice.snapshotter.name
    return "overlayfs" if name == "overlay" else name


def _worker_id(root: Path) -> str:
    """Read the id of this root, or make one: 25 characters, as BuildKit's are."""
    path = root / "workerid"
    try:
        return path.read_text()
    except FileNotFoundError:
        pass
    draft = root / f".workerid.{os.getpid()}"
    draft.write_text(new_id())
    os.replace(draft, path)
    return path.read_text()


def new_id() -> str:
    """Give 25 random characters of base 36."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(25))
