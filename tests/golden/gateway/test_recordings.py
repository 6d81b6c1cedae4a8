"""Golden cases recorded, and replayed without the stub."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.golden.llb.golden import Case, Observed, cases

from torana.frontends.dockerfile import DockerfileFrontend
from torana.gateway.recording.frontend import RecordedFrontend
from torana.gateway.recording.recording import Recording
from torana.gateway.recording.replay import replay


@pytest.mark.parametrize("folder", [pytest.param(p, id=p.name) for p in cases()[::12]])
async def test_replay(folder: Path, tmp_path: Path) -> None:
    case = Case.load(folder)
    path = tmp_path / "recording"
    recorded = RecordedFrontend("dockerfile", DockerfileFrontend(), path)
    observed = await Observed.of(case.client(), recorded)
    outcome = await replay(Recording.load(path), DockerfileFrontend())
    assert outcome.differences == []
    assert (outcome.error is None) == (observed.error is None)
