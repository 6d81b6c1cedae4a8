"""`ExporterSuite`: what every exporter must do."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from torana.core.errors import ToranaError
from torana.core.oci.platform import host_platform
from torana.core.worker import Worker
from torana.plugins.exporter import ExportContext, Exporter, ExportResult, PlatformResult

# Times in results are those of the build, unless it is told a time.
_EPOCH: Final = {"source.date.epoch": b"1700000000"}


class QuietExportProgress:
    """Takes what an exporter reports."""

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Show nothing."""


class MemoryOutput:
    """Keeps what is written; a file is there only if it was left without an error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.written: bytes | None = None

    @contextmanager
    def file(self, answer: Mapping[str, str] | None = None) -> Iterator[BinaryIO]:
        """Open the file."""
        buffer = io.BytesIO()
        yield buffer
        self.written = buffer.getvalue()

    def directory(self) -> Path:
        """Give the folder."""
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def content(self) -> object:
        """Give all that was written."""
        files = sorted(self._folder.rglob("*")) if self._folder.exists() else ()
        return self.written, [(str(p.relative_to(self._folder)), p.lstat().st_mode) for p in files]


class ExporterSuite:
    """Subclasses have the fixture `exporter`, and may have `attrs` of an export that succeeds."""

    @pytest.fixture
    def attrs(self) -> Mapping[str, str]:
        return {}

    @pytest.fixture
    def context(self, tmp_path: Path) -> Iterator[ExportContext]:
        worker = Worker(tmp_path / "store", snapshotter="native")
        yield ExportContext(
            content=worker.content,
            images=worker.images,
            layers=worker.layers,
            image_layers=worker.image_layers,
            platform=worker.platform,
            progress=QuietExportProgress(),
        )
        worker.close()

    @pytest.fixture
    def run(
        self, exporter: Exporter, context: ExportContext, tmp_path: Path
    ) -> Callable[[Mapping[str, str], str], tuple[Mapping[str, str], object]]:
        """Export an empty result; gives the answer, and what was written."""

        def run(attrs: Mapping[str, str], name: str) -> tuple[Mapping[str, str], object]:
            output = MemoryOutput(tmp_path / name)
            platform = host_platform()
            share = PlatformResult(id=platform.format(), platform=platform, ref=None)
            result = ExportResult(platforms=[share], is_map=False, metadata=_EPOCH)
            answer = asyncio.run(exporter.export(result, attrs, output, context))
            return answer, output.content()

        return run

    def test_names_itself(self, exporter: Exporter) -> None:
        assert exporter.type
        assert exporter.title

    def test_answers_with_text(
        self,
        run: Callable[[Mapping[str, str], str], tuple[Mapping[str, str], object]],
        attrs: Mapping[str, str],
    ) -> None:
        answer, _ = run(attrs, "out")
        assert all(isinstance(part, str) for item in answer.items() for part in item)

    def test_same_result_and_epoch_give_the_same_files(
        self,
        run: Callable[[Mapping[str, str], str], tuple[Mapping[str, str], object]],
        attrs: Mapping[str, str],
    ) -> None:
        assert run(attrs, "one") == run(attrs, "other")

    def test_refusals_are_errors_of_ours(
        self, run: Callable[[Mapping[str, str], str], tuple[Mapping[str, str], object]]
    ) -> None:
        for attrs in ({"compression": "no-such"}, {"no-such-attribute": "x"}, {"name": "A B"}):
            try:
                run(attrs, "refused")
            except ToranaError as err:
                assert str(err)
