"""Who builds: root, a user with ranges of ids, a user with one id, root of a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

NOBODY = 65534
HAS_FUSE = os.path.exists("/dev/fuse")
# A device that ordinary users may open, as on most machines; in a mount namespace of its own.
_FUSE = """
rm -f {folder}/fuse && mknod {folder}/fuse c 10 229 && chmod 666 {folder}/fuse &&
mount --bind {folder}/fuse /dev/fuse && exec "$@"
"""
NAMES = ("root", "ranges", "single", "container")


@dataclass(frozen=True)
class Builder:
    """Runs `torana` as somebody, with a store and a context of their own."""

    name: str
    prefix: tuple[str, ...]
    folder: Path  # theirs

    @property
    def context(self) -> Path:
        return self.folder / "context"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, sys.path))
        return subprocess.run(
            [*self.prefix, sys.executable, "-B", "-m", "torana", *arguments],
            env={
                "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
                "HOME": str(self.folder),
                "PYTHONPATH": paths,
                "TORANA_ROOT": str(self.folder / "store"),
                "TORANA_NETWORK": "host",
                "TORANA_GC": "off",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
        )

    def build(
        self, dockerfile: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        (self.context / "Dockerfile").write_text(dockerfile)
        return self.run("build", "--progress=plain", *arguments, "context", **environment)


def with_fuse(builder: Builder) -> Builder:
    """Let the builder open /dev/fuse."""
    script = _FUSE.format(folder=builder.folder)
    return replace(builder, prefix=("unshare", "-m", "sh", "-c", script, "sh", *builder.prefix))


def _setpriv(uid: int) -> tuple[str, ...]:
    return ("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--")


@pytest.fixture(scope="session")
def ranged_user() -> Iterator[int]:
    """A user of the machine with ranges of ids, for as long as the tests run."""
    name = f"torana{os.getpid()}"
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True)
    try:
        for file in ("subuid", "subgid"):
            if not any(
                line.startswith(f"{name}:") for line in Path("/etc", file).read_text().splitlines()
            ):
                start = 1_000_000 + os.getpid() % 1000 * 65536
                option = f"--add-{file}s"
                subprocess.run(["usermod", option, f"{start}-{start + 65535}", name], check=True)
        yield int(subprocess.check_output(["id", "-u", name]))
    finally:
        subprocess.run(["userdel", "--force", name], check=True, capture_output=True)


def make_builder(request: pytest.FixtureRequest, name: str, folder: Path) -> Builder:
    """Give the builder called `name`, with a busybox in its context."""
    owner, prefix = 0, tuple[str, ...]()
    match name:
        case "ranges":
            owner = request.getfixturevalue("ranged_user")
            prefix = _setpriv(owner)
        case "single":
            owner = NOBODY
            prefix = _setpriv(owner)
        case "container":
            # Root without the right to mount, as in an unprivileged container.
            kept = ("--inh-caps", "-sys_admin", "--bounding-set", "-sys_admin")
            prefix = ("setpriv", *kept, "--")
    made = Builder(name, prefix, folder)
    made.context.mkdir()
    shutil.copy("/bin/busybox", made.context / "busybox")
    for path in (folder, made.context, made.context / "busybox"):
        os.chown(path, owner, owner)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can get to."""
    with tempfile.TemporaryDirectory(prefix="torana-test-") as text:
        yield Path(text)


@pytest.fixture(params=NAMES)
def builder(request: pytest.FixtureRequest, folder: Path) -> Builder:
    for mark in request.node.iter_markers("differs"):
        if request.param in mark.kwargs:
            request.applymarker(pytest.mark.xfail(reason=mark.kwargs[request.param], strict=True))
    return make_builder(request, request.param, folder)
