"""`enter`: a root of its own for a frontend's process, with nothing in it but what runs Python.

Not the machine's root without some folders: what is not listed here does not exist, so that no
home, no project and no socket has to be thought of.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from torana.core.snapshots import mounts

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt/python")
_SETTINGS: Final = ("/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives", "/etc/ssl/certs")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
TEMPORARY: Final = "/run/frontend"  # in the new root; what is in /tmp may have to be seen
_TEMPORARY_BYTES: Final = 64 << 20
_ROOT_BYTES: Final = 1 << 20
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_RDONLY_NOSUID: Final = 1 | 2


def python_paths(*packages: str) -> list[str]:
    """Give the folders and files that this Python, Torana and `packages` are made of."""
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)]
    found += [place for name in ("torana", *packages) for place in _package_places(name)]
    found += _editable_projects()
    found += _linked_from(filter(os.path.isdir, sys.path))
    return [path for path in found if os.path.isabs(path) and os.path.exists(path)]


def enter(folder: str, visible: Sequence[str]) -> None:
    """Make `folder`, which is empty, the root of this process; `visible` are all that is in it.

    Needs a mount namespace and a pid namespace of its own. `TEMPORARY` can be written to.

    Raises:
        OSError: the kernel refuses.
    """
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)
    mounts.mount("tmpfs", folder, "tmpfs", 0, f"mode=0755,size={_ROOT_BYTES}")
    for path in _SYSTEM:
        _show(path, folder)
    for path in _outermost([*_SETTINGS, *_DEVICES, *visible]):
        _show(path, folder)
    for name in ("/proc", "/old", TEMPORARY):
        os.makedirs(folder + name, exist_ok=True)
    mounts.mount("proc", f"{folder}/proc", "proc", 2 | 4 | 8)
    os.chdir(folder)
    _call("pivot_root", b".", b"old")
    os.chdir("/")
    _call("umount2", b"/old", mounts.MNT_DETACH)
    os.rmdir("/old")
    _make_readonly()
    options = f"mode=1777,size={_TEMPORARY_BYTES}"
    mounts.mount("tmpfs", TEMPORARY, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, options)


def _package_places(name: str) -> Iterator[str]:
    """Give where a top-level package or module lies, links of its folders followed."""
    try:
        spec = importlib.util.find_spec(name)
    except (ValueError, ImportError, AttributeError):
        return
    if spec is None:
        return
    for place in spec.submodule_search_locations or ():
        yield place
        yield from _linked_from([place])
    if spec.origin and os.path.isabs(spec.origin):
        yield spec.origin


def _linked_from(folders: Iterable[str]) -> Iterator[str]:
    """Give where links in folders lead."""
    for folder in folders:
        for entry in os.scandir(folder):
            if entry.is_symlink():
                yield os.path.realpath(entry.path)


def _editable_projects() -> Iterator[str]:
    """Give the source trees of distributions that were installed to be edited."""
    for folder in filter(os.path.isdir, sys.path):
        if not any(name.startswith("__editable__") for name in os.listdir(folder)):
            continue
        for file in Path(folder).glob("*.dist-info/direct_url.json"):
            try:
                url = json.loads(file.read_text())
                if url.get("dir_info", {}).get("editable"):
                    yield unquote(urlsplit(url["url"]).path)
            except (OSError, ValueError, KeyError, AttributeError):
                continue


def _outermost(paths: Iterable[str]) -> list[str]:
    """Drop what lies below another one, and `/` itself."""
    kept: list[str] = []
    for path in sorted(map(os.path.normpath, set(paths))):
        inside = (*_SYSTEM, *kept)
        if path != "/" and not any(path == each or path.startswith(f"{each}/") for each in inside):
            kept.append(path)
    return kept


def _show(path: str, folder: str) -> None:
    """Have `path` in the new root: a link as it is, all else bound."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    target = folder + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(status.st_mode) and path in _SYSTEM:
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        open(target, "x").close()
    mounts.mount(path, target, "", mounts.MS_BIND | mounts.MS_REC)


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _make_readonly() -> None:
    attributes = _MountAttributes(set=_RDONLY_NOSUID)
    _call(
        "syscall",
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )


def _call(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
