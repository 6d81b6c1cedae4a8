"""Mockerfiles in both forms, really built: packages, downloads at the same time, steps, targets."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.integration.cli.test_build import BUSYBOX, Project

pytestmark = pytest.mark.needs("root", "crun", "busybox")

TOOL = b"#!/bin/sh\necho tool\n"
_TOGETHER_S = 20  # how long a download waits for the other one


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in (("docs/readme", b"read me\n"), ("plain", b"plain\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o640
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVE = _archive()


class Server(ThreadingHTTPServer):
    """Answers `/tool` and `/docs.tar.gz` only when both have been asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.both = threading.Barrier(2)
        self.files = {"/tool": TOOL, "/docs.tar.gz": ARCHIVE, "/key.gpg": b"a key\n"}
        self.alone: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        if self.path != "/key.gpg":
            try:
                self.server.both.wait(_TOGETHER_S)
            except threading.BrokenBarrierError:
                self.server.alone.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A context, and a folder that stands for the base image: busybox with an apt that notes."""
    made = Project(tmp_path)
    root = made.folder / "base"
    for name in ("bin", "etc/apt", "tmp", "usr/bin"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    for name in ("sh", "cat", "rm", "mkdir", "echo", "cp", "chmod"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("apt-get", "apt-key"):
        (root / "usr/bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >> /apt.log\n')
        (root / "usr/bin" / name).chmod(0o755)
    (root / "bin/busybox").chmod(0o755)
    made.write("hello.txt", "hello\n")
    return made


def _build(project: Project, name: str, text: str, *arguments: str) -> tuple[int, str, Path]:
    project.write(name, text)
    out = project.folder / "out"
    done = project.run(
        "build", ".", "-f", name, "-o", f"type=local,dest={out}", "--progress", "plain",
        "--build-context", f"debian:12={project.folder / 'base'}", *arguments,
    )  # fmt: skip
    return done.returncode, done.stderr, out


def _yaml(server: Server, version: str = "v1alpha1", more: str = "") -> str:
    return f"""\
# syntax=r2d4/mocker
apiVersion: {version}
images:
- name: tools
  from: debian:12
  package:
    repo:
    - deb https://example.org "$stable" main
    gpg:
    - {server.url}/key.gpg
    install:
    - ca-certificates
    - gcc=4:12
  external:
  - src: {server.url}/tool
    dst: /opt/new/tool
    sha256: {hashlib.sha256(TOOL).hexdigest()}
  - src: {server.url}/docs.tar.gz
    dst: /usr/share/docs
{more}"""


def test_original_document(project: Project, server: Server) -> None:
    code, stderr, out = _build(project, "Mockerfile.yaml", _yaml(server))
    assert code == 0, stderr
    assert not server.alone, "downloads did not run at the same time"
    assert (out / "opt/new/tool").read_bytes() == TOOL
    assert (out / "opt/new/tool").stat().st_mode & 0o777 == 0o755
    assert (out / "usr/share/docs/docs/readme").read_text() == "read me\n"
    assert (out / "usr/share/docs/plain").read_text() == "plain\n"
    assert (out / "etc/apt/sources.list").read_text() == (
        'deb https://example.org "$stable" main\n'
    )
    assert (out / "apt.log").read_text().splitlines() == [
        "apt-get update",
        "apt-get install apt-transport-https -y",
        "apt-key add /key.gpg",
        "apt-get update",
        "apt-get install --no-install-recommends --no-install-suggests -y ca-certificates gcc=4:12",
    ]
    assert not (out / "key.gpg").exists()
    assert "MissingChecksum" in stderr and "docs.tar.gz" in stderr
    assert "r2d4/mocker" in stderr  # the alias is announced


def test_newer_document(project: Project, server: Server) -> None:
    more = "  workdir: /srv/app\n  steps:\n  - echo 100% > made\n"
    code, stderr, out = _build(project, "Mockerfile.yaml", _yaml(server, "v1alpha2", more))
    assert code == 0, stderr
    assert (out / "srv/app/made").read_text() == "100%\n"


def test_own_form(project: Project, server: Server) -> None:
    text = f"""\
# syntax=mockerfile
image base
from debian:12
repo deb https://example.org stable main
key {server.url}/key.gpg sha256:{hashlib.sha256(server.files["/key.gpg"]).hexdigest()}
packages ca-certificates \\
         gcc
file {server.url}/tool /usr/bin/tool sha256:{hashlib.sha256(TOOL).hexdigest()}
archive {server.url}/docs.tar.gz /usr/share/docs sha256:{hashlib.sha256(ARCHIVE).hexdigest()}

image app
from base
env GREETING = "hi  there"
workdir /srv
copy hello.txt ./
run tool > said && \\
    echo "$GREETING" >> said
cmd ["tool"]

image small
from scratch
copy from app /srv/said /said
"""
    code, stderr, out = _build(project, "Mockerfile", text)
    assert code == 0, stderr
    assert not server.alone, "downloads did not run at the same time"
    assert sorted(path.name for path in out.iterdir()) == ["said"]
    assert (out / "said").read_text() == "tool\nhi  there\n"
    assert "WARNING" not in stderr
    image = project.folder / "app.tar"
    code, stderr, _ = _build(
        project, "Mockerfile", text, "--target", "app", "-o", f"type=oci,dest={image}"
    )
    assert code == 0, stderr
    config = _config(image)
    assert config["Cmd"] == ["tool"]
    assert "GREETING=hi  there" in str(config["Env"])
    assert config["WorkingDir"] == "/srv"


def _config(image: Path) -> dict[str, object]:
    with tarfile.open(image) as archive:

        def load(name: str) -> dict[str, object]:
            member = archive.extractfile(name)
            assert member is not None
            return dict(json.loads(member.read()))

        def blob(entry: object) -> dict[str, object]:
            assert isinstance(entry, dict)
            return load(f"blobs/{entry['digest'].replace(':', '/')}")

        listed = load("index.json")["manifests"]
        assert isinstance(listed, list)
        found = blob(blob(listed[0])["config"])["config"]
        assert isinstance(found, dict)
        return found


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (
            "  external:",
            "  extrenal:",
            ["Mockerfile.yaml:14", "unknown key", "did you mean `external`?"],
        ),
        ("images:", "images: []\nx:", ["unknown key in the file: `x`"]),
        ("/tool\n", "/nothing\n", ["404", "Mockerfile.yaml:15"]),
        ("sha256: ", "sha256: 0", ["not a sha256", "Mockerfile.yaml:17"]),
    ],
)
def test_mistakes_show_their_line(
    project: Project, server: Server, old: str, new: str, lines: list[str]
) -> None:
    server.both = threading.Barrier(1)
    code, stderr, _ = _build(project, "Mockerfile.yaml", _yaml(server).replace(old, new, 1))
    assert code == 1
    for line in lines:
        assert line in stderr, stderr


def test_a_wrong_checksum_stops_the_build(project: Project, server: Server) -> None:
    server.both = threading.Barrier(1)
    text = _yaml(server).replace(hashlib.sha256(TOOL).hexdigest(), "0" * 64)
    code, stderr, out = _build(project, "Mockerfile.yaml", text)
    assert code == 1
    assert "0000000" in stderr and not out.exists()
