"""SELinux labels of containers: the policy's domain and file type, and categories of each its own.

What one container writes with its categories another one cannot read. The policy names both labels
in `lxc_contexts`. The kernel has them written down; which files a container may read besides is the
policy's business (container-selinux).

Spec: reference of exec, section 7; selinux(8), lxc_contexts of libselinux.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from torana.core.errors import UnsupportedError
from torana.core.records import dataclass

_KERNEL: Final = Path("/sys/fs/selinux")
_CONFIG: Final = Path("/etc/selinux")
_CATEGORIES: Final = 1024
_PRIVILEGED: Final = "s0:c1022,c1023"


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one container; no process label leaves it in the domain of the engine."""

    process: str = ""
    files: str = ""  # of what is mounted for it alone: /dev, tmpfs


def container_labels(
    *, is_insecure: bool, kernel: Path = _KERNEL, config: Path = _CONFIG
) -> Labels:
    """Give labels with categories that are drawn by lot; an insecure container is not confined.

    Raises:
        UnsupportedError: SELinux is not enabled, or its policy knows no containers.
    """
    if not (kernel / "enforce").exists():
        raise UnsupportedError("selinux is not available")
    contexts = _contexts(config)
    if is_insecure:
        return Labels(files=_with_level(contexts["file"], _PRIVILEGED))
    first, second = sorted(secrets.SystemRandom().sample(range(_CATEGORIES - 2), 2))
    level = f"s0:c{first},c{second}"
    return Labels(_with_level(contexts["process"], level), _with_level(contexts["file"], level))


def _with_level(label: str, level: str) -> str:
    return ":".join((*label.split(":")[:3], level))


def _contexts(config: Path) -> dict[str, str]:
    """Read the labels that the policy has for containers."""
    try:
        policy = _settings(config / "config").get("SELINUXTYPE", "targeted")
        found = _settings(config / policy / "contexts" / "lxc_contexts")
        return {name: found[name] for name in ("process", "file")}
    except (OSError, KeyError) as err:
        raise UnsupportedError(
            f"the SELinux policy has no labels for containers: {err}",
            hint="install `container-selinux`, or run without `selinux`",
        ) from err


def _settings(path: Path) -> dict[str, str]:
    rows = (line.partition("=") for line in path.read_text(errors="replace").splitlines())
    return {
        key.strip(): value.strip().strip('"')
        for key, _, value in rows
        if not key.lstrip().startswith("#")
    }
