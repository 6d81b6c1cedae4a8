"""What integration tests of several areas use: a tree with busybox in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

APPLETS = (
    "sh cat id ls sleep true false mount ip grep head wc mknod stat env pwd touch rm hostname "
    "unshare dd seq mkdir printf readlink chmod ps kill find tr stty tty"
).split()


@pytest.fixture(scope="session")
def busybox_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    busybox = shutil.which("busybox")
    assert busybox is not None, "tests that use this need `busybox`"
    root = tmp_path_factory.mktemp("busybox")
    root.chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1001:1002::/h:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nannies:x:1002:\nextra:x:1003:bob,ann\n")
    (root / "tmp").mkdir(mode=0o1777)
    os.utime(root / "etc", ns=(10**18, 10**18))
    os.utime(root, ns=(10**18, 10**18))
    return root
