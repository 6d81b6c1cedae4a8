"""Files of a result: in folders and tars, of one platform or several."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds

from torana.core.errors import UserError
from torana.gateway.engines.engine import ExportRequest

TEXT = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /same\nCOPY Dockerfile /d/$TARGETARCH\n"
APART = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /d/$TARGETARCH\n"
BOTH = "linux/amd64,linux/arm64"


def local(dest: Path, **attrs: str) -> ExportRequest:
    named = {key.replace("_", "-"): value for key, value in attrs.items()}
    return ExportRequest(type="local", dest=str(dest), attrs=named)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_a_folder_for_each_platform(builds: Builds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await builds.build(TEXT, local(out), platform=BOTH)
    assert names(out) == [
        "linux_amd64/d/amd64",
        "linux_amd64/same",
        "linux_arm64/d/arm64",
        "linux_arm64/same",
    ]
    await builds.build(TEXT, local(out / "one"), platform="linux/amd64")
    assert names(out / "one") == ["d/amd64", "same"]
    await builds.build(TEXT, local(out / "split", platform_split="true"), platform="linux/amd64")
    assert names(out / "split") == ["linux_amd64/d/amd64", "linux_amd64/same"]


async def test_platforms_in_one_folder(builds: Builds, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await builds.build(APART, local(out, platform_split="false"), platform=BOTH)
    assert names(out) == ["d/amd64", "d/arm64"]
    (out / "same").write_text("mine")
    text = "cannot overwrite same from linux/amd64 with linux/arm64 when split option is disabled"
    with pytest.raises(UserError, match=text):
        await builds.build(TEXT, local(out, platform_split="false"), platform=BOTH)
    assert (out / "same").read_text() == "mine"  # nothing was written


@pytest.mark.parametrize("platform", ["linux/amd64", BOTH])
async def test_what_was_there(builds: Builds, tmp_path: Path, platform: str) -> None:
    out = tmp_path / "out"
    (out / "old/folder").mkdir(parents=True)
    (out / "old/folder/file").write_text("old")
    await builds.build(APART, local(out), platform=platform)
    assert "old/folder/file" in names(out)
    await builds.build(APART, local(out, mode="delete"), platform=platform)
    assert not (out / "old").exists()
    assert names(out)
    with pytest.raises(UserError, match="invalid local exporter mode"):
        await builds.build(APART, local(out, mode="move"), platform=platform)


async def test_times_and_tars(builds: Builds, tmp_path: Path) -> None:
    out, tar = tmp_path / "out", tmp_path / "out.tar"
    epoch = {"build-arg:SOURCE_DATE_EPOCH": "1000"}
    await builds.build(
        TEXT, local(out), ExportRequest(type="tar", dest=str(tar)), platform=BOTH, **epoch
    )
    assert {path.stat().st_mtime for path in out.rglob("*")} >= {1000}
    assert {path.stat().st_mtime for path in out.rglob("*") if path.is_file()} == {1000}
    with tarfile.open(tar) as archive:
        members = archive.getmembers()
    assert {member.mtime for member in members} == {1000}
    assert [m.name for m in members if m.isfile()] == names(out)
    # One platform that was asked for as several has a folder of its own.
    await builds.build(
        TEXT, ExportRequest(type="tar", dest=str(tar)), platform="linux/amd64",
        **{"multi-platform": "true"},
    )  # fmt: skip
    with tarfile.open(tar) as archive:
        assert archive.getnames()[0].startswith("linux_amd64")


async def test_an_empty_result(builds: Builds, tmp_path: Path) -> None:
    out, tar = tmp_path / "out", tmp_path / "out.tar"
    await builds.build("FROM scratch\n", local(out), ExportRequest(type="tar", dest=str(tar)))
    assert out.is_dir() and not names(out)
    with tarfile.open(tar) as archive:
        assert archive.getnames() == []
