"""Where a file system puts new files: a hint that makes creating many of them faster.

ext4 keeps a file's inode in the block group of its folder, and will not use an inode again for some
minutes after it was freed: in a group where much was deleted it looks at each of those inodes
before every single file that is made (measured: 290 us a file in place of 25). A folder that is
marked as the top of directory hierarchies, as `chattr +T` does, has each folder in it placed in a
group of its own, where there is room; so that one snapshot never pays for another's removal.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

_GET_FLAGS: Final = 0x80086601  # FS_IOC_GETFLAGS
_SET_FLAGS: Final = 0x40086602
_TOP_FOLDER: Final = 0x20000  # FS_TOPDIR_FL
_LONG: Final = struct.Struct("l")


def spread_folders(folder: Path) -> None:
    """Ask for folders made in `folder` to be placed apart; nothing where that is unknown."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_LONG.size))
        flags = _LONG.unpack(found)[0]
        if not flags & _TOP_FOLDER:
            fcntl.ioctl(descriptor, _SET_FLAGS, _LONG.pack(flags | _TOP_FOLDER))
    except OSError:
        return  # a hint: other file systems, and folders of other owners
    finally:
        os.close(descriptor)
