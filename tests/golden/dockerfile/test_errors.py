"""Measured errors and warnings of whole builds against the stub client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.golden.dockerfile.rows import rows
from tests.golden.llb.golden import GOLDEN_DIR
from tests.golden.llb.stub_client import StubClient, StubImages

from torana.core.errors import ToranaError
from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.kit.diagnostics import render_excerpt


def _text(row: dict[str, Any]) -> str | None:
    if repeat := row.get("dockerfile_repeat"):
        filler = repeat["char"] * repeat["count"]
        return f"{repeat['prefix']}{filler}{repeat['suffix']}"
    text: str | None = row["dockerfile"]
    return text


@pytest.mark.parametrize("row", rows("errors.json"))
async def test_error(row: dict[str, Any], tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    if (text := _text(row)) is not None:
        (context / "Dockerfile").write_bytes(text.encode())
    if (ignore := row.get("dockerignore")) is not None:
        (context / ".dockerignore").write_bytes(ignore.encode())
    images = StubImages.load(GOLDEN_DIR / "stub-images.json")
    client = StubClient(folder=tmp_path, images=images, options=row["opts"])
    if row["error"] is None:
        await DockerfileFrontend().build(client)
    else:
        with pytest.raises(ToranaError) as caught:
            await DockerfileFrontend().build(client)
        error = caught.value
        assert error.message == row["error"]
        ranges = [
            [[span.start.line, span.end.line] for span in source.ranges] for source in error.sources
        ]
        assert ranges == row["source_ranges"]
        rendered = [render_excerpt(source) for source in error.sources]
        assert rendered == row.get("rendered", [])
    if "warnings" in row:
        assert [warning.short for warning in client.warnings] == row["warnings"]
