"""Mounting by system call: overlays of any depth, binds, and their end."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import threading
from collections.abc import Sequence
from typing import Any, Final

from torana.core.errors import UnsupportedError

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MNT_DETACH: Final = 2

# nosuid, nodev, noexec, noatime, nodiratime: the same numbers in statvfs and in mount. relatime is
# what the kernel takes when none is given.
_KEPT_FLAGS: Final = 2 | 4 | 8 | 1024 | 2048

LINKS_PREFIX: Final = "layers-"  # of folders beside a target while it is being mounted
_CLONE_FS: Final = 0x200
_MAX_LAYERS: Final = 500
_MAX_OPTIONS: Final = 4095  # a page less its terminator
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 429, 430, 431, 432
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_AT_FDCWD: Final = -100
_libc: Any = None


def _call(name: str, *args: Any, path: str = "") -> int:
    global _libc
    if _libc is None:
        _libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(_libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount (mount(2)).

    Raises:
        OSError: the kernel refuses.
    """
    encoded = [os.fsencode(text) if text else None for text in (source, target, kind)]
    options = os.fsencode(data) if data else None
    _call("mount", *encoded, ctypes.c_ulong(flags), options, path=target)


def unmount(target: str) -> None:
    """Unmount lazily: the tree vanishes now, what is still open keeps working."""
    try:
        _call("umount2", os.fsencode(target), MNT_DETACH, path=target)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def bind(source: str, target: str, *, readonly: bool = False) -> None:
    """Show `source` at `target` as well."""
    mount(source, target, "", MS_BIND | MS_REC)
    if readonly:
        try:
            # A user namespace may not take away flags that the mount has from outside.
            kept = os.statvfs(target).f_flag & _KEPT_FLAGS
            mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | kept)
        except BaseException:
            unmount(target)
            raise


def mount_overlay(
    target: str,
    lowers: Sequence[str],
    *,
    upper: str | None = None,
    work: str | None = None,
    options: Sequence[str] = (),
) -> None:
    """Mount an overlay at `target`; `lowers` are top first.

    Option strings that do not fit in a page go through fsconfig(2), layer by layer, or where the
    kernel does not have that (before 6.7, or forbidden by seccomp) as names relative to a folder of
    links.

    Raises:
        UnsupportedError: more layers than the kernel takes.
        OSError: the kernel refuses.
    """
    if len(lowers) > _MAX_LAYERS:
        raise UnsupportedError(
            f"too many layers: {len(lowers)}, an overlay takes {_MAX_LAYERS}",
            hint="use the native snapshotter, or fewer steps",
        )
    parts = [f"lowerdir={':'.join(_escaped(lower) for lower in lowers)}"]
    if upper is not None:
        parts += [f"upperdir={_escaped(upper)}", f"workdir={_escaped(work or '')}"]
    text = ",".join([*parts, *options])
    flags = 0 if upper is not None else MS_RDONLY
    if len(os.fsencode(text)) <= _MAX_OPTIONS:
        mount("overlay", target, "overlay", flags, text)
        return
    try:
        _mount_deep(target, lowers, upper, work, options)
    except OSError as err:
        if err.errno not in (errno.ENOSYS, errno.EINVAL, errno.EPERM):
            raise
        _mount_relative(target, lowers, upper, work, options)


def _mount_relative(
    target: str,
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    options: Sequence[str],
) -> None:
    """Mount with links of one to three digits as names, in a thread with its own working folder."""
    with tempfile.TemporaryDirectory(prefix=LINKS_PREFIX, dir=os.path.dirname(target)) as folder:
        for number, lower in enumerate(lowers):
            os.symlink(os.path.abspath(lower), f"{folder}/{number}")
        parts = ["lowerdir=" + ":".join(map(str, range(len(lowers))))]
        if upper is not None:
            os.symlink(os.path.abspath(upper), f"{folder}/u")
            os.symlink(os.path.abspath(work or ""), f"{folder}/w")
            parts += ["upperdir=u", "workdir=w"]
        text = ",".join([*parts, *options])
        failed: list[BaseException] = []

        def work_in_folder() -> None:
            try:
                _call("unshare", _CLONE_FS)
                os.chdir(folder)
                flags = 0 if upper is not None else MS_RDONLY
                mount("overlay", os.path.abspath(target), "overlay", flags, text)
            except BaseException as err:  # handed to the thread that waits
                failed.append(err)

        thread = threading.Thread(target=work_in_folder, name="mount")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount_deep(
    target: str,
    lowers: Sequence[str],
    upper: str | None,
    work: str | None,
    options: Sequence[str],
) -> None:
    context = _call("syscall", _SYS_FSOPEN, b"overlay", 1, path=target)
    try:
        for lower in lowers:
            _configure(context, "lowerdir+", lower)
        if upper is not None:
            # The kernel takes backslashes out of these two, but not of `lowerdir+`.
            _configure(context, "upperdir", upper.replace("\\", "\\\\"))
            _configure(context, "workdir", (work or "").replace("\\", "\\\\"))
        for option in options:
            key, equals, value = option.partition("=")
            _configure(context, key, value if equals else None)
        _call("syscall", _SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0, path=target)
        attributes = 0 if upper is not None else 1  # MOUNT_ATTR_RDONLY
        tree = _call("syscall", _SYS_FSMOUNT, context, 1, attributes, path=target)
    finally:
        os.close(context)
    try:
        _call(
            "syscall",
            _SYS_MOVE_MOUNT,
            tree,
            b"",
            _AT_FDCWD,
            os.fsencode(target),
            _MOVE_MOUNT_F_EMPTY_PATH,
            path=target,
        )
    finally:
        os.close(tree)


def _configure(context: int, key: str, value: str | None) -> None:
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    encoded = None if value is None else os.fsencode(value)
    _call("syscall", _SYS_FSCONFIG, context, command, key.encode(), encoded, 0, path=value or key)
