"""Emulators for steps of platforms that this machine does not run by itself.

Where the kernel has a handler for the platform's programs, or runs them anyway, nothing is needed.
Else `buildkit-qemu-ARCH` is looked for on the PATH, and runs what the step names. Without one the
step is run as it is, and fails in the kernel's words.

Spec: reference of exec, section 15.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Final

from torana.core.oci.platform import Platform, host_platform

log = logging.getLogger(__name__)

PLACE: Final = "/dev/.buildkit_qemu_emulator"
_HANDLERS: Final = Path("/proc/sys/fs/binfmt_misc")
_QEMU_NAMES: Final = {"386": "i386", "amd64": "x86_64", "arm64": "aarch64"}
_NATIVE: Final = {"amd64": ("386",)}  # what a processor runs besides its own


def find_emulator(
    platform: Platform, *, host: Platform | None = None, handlers: Path = _HANDLERS
) -> Path | None:
    """Give the program that a step of `platform` needs, None if none is needed or there."""
    wanted = platform.normalized()
    own = (host or host_platform()).architecture
    if wanted.architecture == own or wanted.architecture in _NATIVE.get(own, ()):
        return None
    name = _QEMU_NAMES.get(wanted.architecture, wanted.architecture)
    if _is_handled(handlers / f"qemu-{name}"):
        return None
    found = shutil.which(f"buildkit-qemu-{name}")
    if found is None:
        log.warning("no emulator for %s: `buildkit-qemu-%s` is not on PATH", wanted.format(), name)
        return None
    return Path(os.path.realpath(found))


def _is_handled(handler: Path) -> bool:
    try:
        return handler.read_text().startswith("enabled")
    except OSError:
        return False
