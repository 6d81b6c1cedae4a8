"""Contexts: what is read of folders, addresses and named contexts."""

from __future__ import annotations

import http.server
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.integration.dockerfile.builder import BASE, Builder

pytestmark = pytest.mark.needs("root", "busybox")


def test_linked_build_file(builder: Builder) -> None:
    """DF-316: a symbolic link is followed."""
    builder.write("real/Dockerfile.real", BASE + "FROM base\nRUN true\n")
    os.symlink("real/Dockerfile.real", builder.context / "Linked")
    builder.build("", "-f", "Linked")


def test_ignored_files(builder: Builder) -> None:
    """DF-317, DF-320: what is excluded, the build file among it, is not copied."""
    for name in ("a.md", "keep.md", "sub/b.md", "sub/c"):
        builder.write(name, name)
    builder.write(
        ".dockerignore", "*.md\n**/*.md\n!keep.md\nDockerfile\n.dockerignore\nbusybox*\n!busybox\n"
    )
    builder.build(
        """\
FROM base
COPY . /all
RUN cd /all && test "$(find . -type f | sort | xargs)" = "./busybox ./keep.md ./sub/c"
"""
    )


def test_named_folder(builder: Builder, tmp_path: Path) -> None:
    """DF-334, DF-338, DF-339: a folder of its own, with its own ignore file."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("other")
    (other / "left-out").write_text("no")
    (other / ".dockerignore").write_text("left-out\n")
    builder.build(
        """\
FROM base AS given
RUN false
FROM base
COPY --from=extra . /e/
RUN --mount=from=extra,source=file,target=/f test "$(cat /f)" = other
COPY --from=given file /replaced
RUN test -e /e/file && test ! -e /e/left-out && test "$(cat /replaced)" = other
""",
        f"--build-context=extra={other}",
        f"--build-context=given={other}",
    )


class _Files(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        data = self.files.get(self.path)
        self.send_response(404 if data is None else 200)
        self.end_headers()
        self.wfile.write(data or b"")

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    """A web server that serves `_Files.files`."""
    _Files.files = {}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _archive(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def test_archive_as_context(builder: Builder, site: str) -> None:
    """DF-324, DF-326: unpacked, with its own build file or one from here."""
    text = BASE + 'FROM base\nCOPY file /f\nRUN test "$(cat /f)" = remote\n'
    busybox = (builder.context / "busybox").read_bytes()
    _Files.files["/c.tgz"] = _archive(Dockerfile=text.encode(), file=b"remote", busybox=busybox)
    arguments = ["-o", "type=tar,dest=/dev/null"]
    result = builder.command("build", *arguments, f"{site}/c.tgz")
    assert result.returncode == 0, result.stderr
    own = builder.write("own", text.replace("= remote", "= remote && test ! -e /nothing"))
    result = builder.command("build", *arguments, "-f", str(own), f"{site}/c.tgz")
    assert result.returncode == 0, result.stderr


def test_downloads(builder: Builder, site: str) -> None:
    """DF-249, DF-250, DF-251: names, modes and checksums of what ADD fetches."""
    _Files.files |= {"/d/a%20file": b"text", "/arc.tgz": _archive(inner=b"x")}
    digest = "sha256:982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1"
    builder.build(
        f"""\
FROM base
ADD --checksum={digest} {site}/d/a%20file /d/
ADD --chmod=0755 {site}/d/a%20file /name
ADD {site}/arc.tgz /kept/
ADD --unpack {site}/arc.tgz /unpacked/
RUN test "$(cat '/d/a file')" = text \\
    && test "$(stat -c %a '/d/a file' /name | xargs)" = "600 755" \\
    && test -f /kept/arc.tgz && test "$(cat /unpacked/inner)" = x
"""
    )
    wrong = digest.replace("982d", "0000")
    result = builder.run(f"FROM base\nADD --checksum={wrong} {site}/d/a%20file /d/\n")
    assert result.returncode == 1
    assert digest in result.stderr
