"""Secrets are nowhere but in the step that mounts them: everything that builds write is searched.

Files of the store, of the client, of the daemon and of temporary folders, whatever their
compression; and arguments and environments of all processes while the step runs.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

import pytest
import zstandard
from tests.integration.engines.traces import wait_for

from torana.gateway.testing.daemons import RunningDaemon, start_daemon

pytestmark = pytest.mark.needs("root", "busybox")

DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base AS uses
RUN --mount=type=secret,id=file,required --mount=type=secret,id=variable,env=V,required \\
    test "$(wc -c < /run/secrets/file)" = 24 && test "${#V}" = 24 && echo step-is-up \\
    && {wait}
FROM uses AS fails
RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=V \\
    sh -c 'kill -SEGV $$'; exit 3
FROM uses
"""


class Project:
    """A context, two planted secrets, and everything that builds of it write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        shutil.copy("/bin/busybox", self.context / "busybox")
        self.planted = [token_hex(12), token_hex(12)]  # in file and variable
        # Outside of what is searched.
        self.secret = Path(tempfile.mkstemp(prefix="secret-")[1])
        self.secret.write_text(self.planted[0])
        self.sleeper = str(10**8 + int(token_hex(3), 16))  # seconds; nobody else sleeps as long
        self.write(f"(sleep {self.sleeper}; true)")
        self.log = folder / "build.log"
        self.runtime = ""

    def write(self, wait: str) -> None:
        (self.context / "Dockerfile").write_text(DOCKERFILE.replace("{wait}", wait))

    def sleepers(self) -> list[int]:
        """Give what the step waits for."""
        line = f"sleep\0{self.sleeper}\0".encode()
        return [pid for pid, found in command_lines() if found == line]

    def start(self, *arguments: str, host: str = "") -> subprocess.Popen[bytes]:
        """Start a build whose client has the secrets."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        made = {
            "TORANA_ROOT": str(self.folder / ("client" if host else "root")),
            "TORANA_NO_MEMO": "",
            "TMPDIR": str(self.temporary),
            "HOME": str(self.folder / "home"),
            "PLANTED": self.planted[1],
            "TORANA_RUNTIME": self.runtime,
        }
        if host:
            made["BUILDKIT_HOST"] = host
        line = [sys.executable, "-m", "torana", "build", "--progress=plain", *arguments]
        line.append("--opt=rebuild-on-secret=file,variable")
        line += [f"--secret=id=file,src={self.secret}", "--secret=id=variable,env=PLANTED", "."]
        with open(self.log, "ab") as log:
            return subprocess.Popen(line, cwd=self.context, stderr=log, env={**kept, **made})

    def build(self, *arguments: str, host: str = "") -> int:
        return self.start(*arguments, host=host).wait(120)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Give all that was written, archives also as what they hold."""
        for top, _, names in os.walk(self.folder):
            for name in names:
                path = Path(top, name)
                if path.is_symlink() or not path.is_file():
                    continue
                data = path.read_bytes()
                yield str(path), data
                for open_ in (
                    gzip.decompress,
                    zstandard.decompress,
                    bz2.decompress,
                    lzma.decompress,
                ):
                    try:
                        yield f"{path} unpacked", open_(data)
                    except (
                        OSError,
                        EOFError,
                        ValueError,
                        zlib.error,
                        lzma.LZMAError,
                        zstandard.ZstdError,
                    ):
                        continue

    def leaks(self) -> list[str]:
        """Give names of files that hold a planted secret."""
        wanted = [value.encode() for value in self.planted]
        searched = 0
        found = []
        for name, data in self.files():
            searched += 1
            found += [name for value in wanted if value in data]
        assert searched > 20, "there is something to be searched"
        return found


def command_lines() -> Iterator[tuple[int, bytes]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                yield int(name), Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue


def showing(planted: list[str], client: int) -> list[bytes]:
    """Give processes that show a secret; the step itself and the client have the variable."""
    found = []
    for pid, line in command_lines():
        if any(value.encode() in line for value in planted):
            found.append(line)
        is_given = pid == client or b"step-is-up" in line or line.startswith(b"sleep\0")
        try:
            environment = b"" if is_given else Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if any(value.encode() in environment for value in planted):
            found.append(line)
    return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.secret.unlink()


@pytest.fixture
def daemon(project: Project) -> Iterator[RunningDaemon]:
    with tempfile.TemporaryDirectory(prefix="tnd-") as path:
        root = project.folder / "root"
        root.mkdir()
        made = start_daemon(
            Path(path),
            ["--root", str(root), "--debug"],
            environment={"TMPDIR": str(project.temporary)},
        )
        try:
            yield made
        finally:
            made.stop(signal.SIGTERM)
            shutil.copy(made.log, project.folder / "daemon.log")


def build_all(project: Project, host: str = "") -> None:
    """Build with success, from the cache, and with a failure; look at processes meanwhile."""
    outputs = [f"--output=type=oci,dest={project.folder}/image.tar"]
    if not host:
        outputs += [f"--record={project.folder}/record"]
    outputs += [f"--cache-to=type=local,mode=max,dest={project.folder}/cache"]
    process = project.start(*outputs, host=host)
    wait_for(project.sleepers, "the step")
    assert showing(project.planted, process.pid) == []
    assert project.leaks() == []  # while it runs
    for pid in project.sleepers():
        os.kill(pid, signal.SIGKILL)
    assert process.wait(120) == 0, project.log.read_text()
    assert project.build(*outputs, host=host) == 0, project.log.read_text()
    assert project.build("--target=fails", host=host) == 1, project.log.read_text()
    assert project.leaks() == []


@pytest.mark.parametrize("runtime", ["crun", "runc", "bubblewrap"])
def test_embedded(project: Project, runtime: str) -> None:
    project.runtime = runtime
    build_all(project)


def test_daemon(project: Project, daemon: RunningDaemon) -> None:
    build_all(project, daemon.address)
    assert daemon.stop() == 0
    shutil.copy(daemon.log, project.folder / "daemon.log")
    assert project.leaks() == []


def test_a_leak_is_found(project: Project) -> None:
    """The search itself: a step that copies its secret is found out."""
    project.write("cp /run/secrets/file /copy")
    assert project.build(f"--output=type=oci,dest={project.folder}/image.tar") == 0
    names = " ".join(project.leaks())
    assert "/copy" in names
    assert "unpacked" in names
