"""The published suite for sources, on those that are built in."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.integration.registry.builds import layer_of
from tests.integration.registry.certificates import Authority
from tests.integration.registry.servers import FaultyRegistry

from torana.core.ops.source import Source, SourceRequest
from torana.plugins.manager import PluginManager
from torana.plugins.testing.sources import SourceSuite

pytestmark = pytest.mark.needs("root")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def serving(folder: Path, certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    """Serve a folder on this machine while entered; gives the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Source:
    """The source of the built-ins that a test class is about."""
    found = {PluginManager().source(scheme) for scheme in request.cls.builtins}
    (source,) = {type(each): each for each in found}.values()
    assert source is not None
    return source


@pytest.mark.needs("openssl")
class TestHttpSource(SourceSuite):
    builtins = ("http", "https")

    @pytest.fixture(params=builtins)
    def scheme(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def wanted(
        self, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[SourceRequest]:
        folder = tmp_path / "served"
        folder.mkdir()
        (folder / "file").write_text("content")
        certificate = None
        if scheme == "https":
            authority = Authority(tmp_path)
            certificate = authority.sign("server", "serverAuth")
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        with serving(folder, certificate) as port:
            yield SourceRequest(scheme=scheme, rest=f"localhost:{port}/file")

    @pytest.fixture
    def malformed(self, scheme: str) -> SourceRequest:
        attrs = {"http.checksum": "no digest"}
        return SourceRequest(scheme=scheme, rest="127.0.0.1/file", attrs=attrs)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyRegistry]:
    """A registry on this machine, whose user has no credentials."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    started = FaultyRegistry()
    yield started
    started.close()


class TestImageSource(SourceSuite):
    builtins = ("docker-image",)

    @pytest.fixture
    def wanted(self, registry: FaultyRegistry) -> SourceRequest:
        registry.image("v1", [layer_of({"file": "content"})])
        return SourceRequest(scheme="docker-image", rest=f"{registry.host}/some/repo:v1")

    @pytest.fixture
    def malformed(self) -> SourceRequest:
        attrs = {"image.resolvemode": "perhaps"}
        return SourceRequest(scheme="docker-image", rest="127.0.0.1/x:v1", attrs=attrs)


class TestBlobSource(SourceSuite):
    builtins = ("docker-image+blob",)

    @pytest.fixture
    def wanted(self, registry: FaultyRegistry) -> SourceRequest:
        blob = registry.blob(b"content")
        rest = f"{registry.host}/some/repo@{blob['digest']}"
        return SourceRequest(scheme="docker-image+blob", rest=rest)

    @pytest.fixture
    def malformed(self) -> SourceRequest:
        return SourceRequest(scheme="docker-image+blob", rest="127.0.0.1/x:no-digest")


@pytest.mark.needs("git")
class TestGitSource(SourceSuite):
    builtins = ("git",)

    @pytest.fixture
    def wanted(self, tmp_path: Path) -> Iterator[SourceRequest]:
        """A repository that is served as plain files."""
        work, bare = tmp_path / "work", tmp_path / "served" / "project.git"
        work.mkdir()
        (work / "file").write_text("content")
        me = ("-c", "user.name=tester", "-c", "user.email=tester@example.invalid")
        for command in (
            ("init", "-q", "-b", "main"),
            ("add", "-A"),
            (*me, "commit", "-q", "-m", "first"),
            ("clone", "-q", "--bare", ".", str(bare)),
        ):
            subprocess.run(["git", *command], cwd=work, check=True, capture_output=True)
        subprocess.run(["git", "update-server-info"], cwd=bare, check=True)
        with serving(bare.parent) as port:
            attrs = {"git.fullurl": f"http://127.0.0.1:{port}/project.git"}
            rest = f"127.0.0.1:{port}/project.git#main"
            yield SourceRequest(scheme="git", rest=rest, attrs=attrs)

    @pytest.fixture
    def malformed(self) -> SourceRequest:
        attrs = {"git.checksum": "no commit"}
        return SourceRequest(scheme="git", rest="127.0.0.1/x.git#main", attrs=attrs)
