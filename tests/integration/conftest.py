"""What integration tests of several areas use: a tree with busybox in it, a Docker daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Docker:
    """A running dockerd."""

    socket: Path

    @property
    def address(self) -> str:
        return f"docker://{self.socket}"

    def run(self, *arguments: str | Path, check: bool = True) -> str:
        """Run the docker client; gives what it printed."""
        done = subprocess.run(
            ["/usr/bin/docker", "-H", f"unix://{self.socket}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A dockerd without networks; tests that use it need `root` and `dockerd`."""
    # Not pytest's folder: addresses of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    started = Docker(folder / "d.sock")
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
             "--data-root", folder / "data", "--exec-root", folder / "exec",
             "-p", folder / "pid", "-H", f"unix://{started.socket}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not started.run("version", "-f", "{{.Server.Version}}", check=False).strip():
            assert daemon.poll() is None, (folder / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, "dockerd does not answer"
            time.sleep(0.2)
        yield started
    finally:
        daemon.terminate()
        daemon.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
