"""Recordings as files, and replays that differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from torana.core.errors import CorruptError, NotFoundError, UnsupportedError, UserError
from torana.core.llb import mkfile, scratch
from torana.core.oci.digest import Digest
from torana.gateway.client import client as c
from torana.gateway.recording.frontend import RecordedFrontend
from torana.gateway.recording.recording import Call, Recording
from torana.gateway.recording.replay import replay

OPTIONS = {"build-arg:TOKEN": "hunter22"}


class Tree:
    def __init__(self, definition: Any) -> None:
        self._definition = definition

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if path == "/absent":
            raise NotFoundError(f"open {path}: no such file or directory")
        return f"{path} hunter22".encode()

    async def definition(self) -> Any:
        return self._definition


class Engine:
    """Answers a few things from memory."""

    options: Mapping[str, str] = OPTIONS
    session_id = "s"
    workers = (c.Worker(id="w"),)
    llb_caps = frozenset({"file.base"})
    gateway_caps = frozenset({"gateway.warnings", "source.metaresolver"})

    async def solve(self, request: c.SolveRequest) -> c.Result:
        return c.Result(ref=cast("c.Reference", Tree(request.definition)))

    async def warn(self, warning: c.Warning) -> None: ...


class Frontend:
    """Reads a file, warns, fails to find one, and builds what it read."""

    def __init__(self, text: str = "text", *, reads_more: bool = False, fails: str = "") -> None:
        self.text = text
        self.reads_more = reads_more
        self.fails = fails

    async def build(self, client: c.Client) -> c.Result:
        definition = scratch().file(mkfile("/source", b"source")).marshal()
        source = (await client.solve(c.SolveRequest(definition=definition))).ref
        assert source is not None
        data = await source.read_file("/file")
        with pytest.raises(NotFoundError, match="no such file"):
            await source.read_file("/absent")
        if self.reads_more:
            await source.read_file("/more")
        if self.fails:
            raise UserError(self.fails)
        await client.warn(c.Warning(vertex=Digest.of(b""), short="short"))
        made = scratch().file(mkfile("/made", self.text.encode() + data)).marshal()
        return await client.solve(c.SolveRequest(definition=made))


async def recorded(path: Path, frontend: Frontend) -> Recording:
    engine = cast("c.Client", Engine())
    if frontend.fails:
        with pytest.raises(UserError, match=frontend.fails):
            await RecordedFrontend("f", frontend, path).build(engine)
    else:
        result = await RecordedFrontend("f", frontend, path).build(engine)
        assert isinstance(result.ref, Tree)
    return Recording.load(path)


async def test_replay_is_the_same(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", Frontend())
    assert os.listdir(tmp_path) == ["r"]
    assert recording.options == {"build-arg:TOKEN": "********"}
    assert b"hunter22" not in (tmp_path / "r").read_bytes()
    outcome = await replay(recording, Frontend())
    assert (outcome.is_same, outcome.error) == (True, None)
    assert outcome.calls == len(recording.calls) == 7


async def test_failures_are_recorded_and_replayed(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", Frontend(fails="oh no"))
    outcome = await replay(recording, Frontend(fails="oh no"))
    assert outcome.is_same
    assert isinstance(outcome.error, UserError)
    other = await replay(recording, Frontend(fails="oh yes"))
    assert [difference.method for difference in other.differences] == ["Return"]


async def test_other_definition(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", Frontend())
    outcome = await replay(recording, Frontend("other"))
    (difference,) = outcome.differences
    assert difference.method == "Solve"
    assert difference.recorded.Definition != difference.replayed.Definition


async def test_new_and_missing_calls(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", Frontend())
    outcome = await replay(recording, Frontend(reads_more=True))
    new = outcome.differences[0]
    assert (new.method, new.recorded, new.replayed.FilePath) == ("ReadFile", None, "/more")
    assert isinstance(outcome.error, NotFoundError)
    missing = [d.method for d in outcome.differences if d.replayed is None]
    assert missing == ["Warn", "Solve"]


async def test_containers_are_not_replayed(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", Frontend())
    recording.has_processes = True
    with pytest.raises(UnsupportedError):
        await replay(recording, Frontend())


@pytest.mark.parametrize("data", [b"", b"text", b"\x81\xa6format\xa1x", b"\x93\x01\x02\x03"])
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "r"
    path.write_bytes(data)
    with pytest.raises(CorruptError):
        Recording.load(path)


def test_cut_off_file(tmp_path: Path) -> None:
    path = tmp_path / "r"
    recording = Recording("f", {}, "s", "0", [Call("Ping", b"a", b"b")])
    recording.save(path)
    assert Recording.load(path) == recording
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptError):
        Recording.load(path)
