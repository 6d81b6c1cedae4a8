"""The published suite for sources, on those that are built in."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from torana.core.ops.source import Source, SourceRequest
from torana.plugins.manager import PluginManager
from torana.plugins.testing.sources import SourceSuite

pytestmark = pytest.mark.needs("root")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve a folder on this machine while entered; gives the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class TestHttpSource(SourceSuite):
    @pytest.fixture
    def source(self) -> Source:
        found = PluginManager().source("http")
        assert found is not None
        return found

    @pytest.fixture
    def wanted(self, tmp_path: Path) -> Iterator[SourceRequest]:
        folder = tmp_path / "served"
        folder.mkdir()
        (folder / "file").write_text("content")
        with serving(folder) as port:
            yield SourceRequest(scheme="http", rest=f"127.0.0.1:{port}/file")

    @pytest.fixture
    def malformed(self) -> SourceRequest:
        attrs = {"http.checksum": "no digest"}
        return SourceRequest(scheme="http", rest="127.0.0.1/file", attrs=attrs)


@pytest.mark.needs("git")
class TestGitSource(SourceSuite):
    @pytest.fixture
    def source(self) -> Source:
        found = PluginManager().source("git")
        assert found is not None
        return found

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
