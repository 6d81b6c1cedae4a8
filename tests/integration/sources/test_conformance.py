"""The published suite for sources, on those that are built in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield SourceRequest(scheme="http", rest=f"127.0.0.1:{server.server_port}/file")
        server.shutdown()
        thread.join()
        server.server_close()

    @pytest.fixture
    def malformed(self) -> SourceRequest:
        attrs = {"http.checksum": "no digest"}
        return SourceRequest(scheme="http", rest="127.0.0.1/file", attrs=attrs)
