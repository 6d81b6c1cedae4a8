"""What a daemon says of itself: its worker, its version.

Spec: wire reference, control, "Workers and version".
"""

from __future__ import annotations

import os
import secrets
import socket
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torana import __version__
from torana.core.oci.platform import Platform, parse_platform
from torana.core.worker import Worker
from torana.gateway.daemon.config import WorkerConfig

PACKAGE: Final = "torana"
VERSION: Final = f"v{__version__}"
_LABEL: Final = "org.mobyproject.buildkit.worker."
_ID_LETTERS: Final = string.digits + string.ascii_lowercase


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The worker as clients see it; its first platform is the default one."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[Platform] = ()


def identify(worker: Worker, config: WorkerConfig) -> Identity:
    """Describe `worker`; its id is the same after a restart.

    Raises:
        InvalidPlatformError: a configured platform cannot be read.
    """
    platforms = [parse_platform(text) for text in config.platforms] or [worker.platform]
    labels = {
        f"{_LABEL}executor": "oci",
        f"{_LABEL}hostname": socket.gethostname(),
        f"{_LABEL}network": "host",
        f"{_LABEL}oci.process-mode": "sandbox",
        f"{_LABEL}selinux.enabled": "false",
        f"{_LABEL}snapshotter": _snapshotter(worker),
        **config.labels,
    }
    return Identity(id=_worker_id(worker.root), labels=labels, platforms=platforms)


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
