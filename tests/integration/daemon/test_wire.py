"""Conversations of stock clients with the stock daemon, played against `toranad`.

Each must go as it was recorded. Where one does not, the table says in what, and why.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from torana.core.llb import mkfile, scratch
from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol import ops_pb2
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.testing.comparison import differences
from torana.gateway.testing.daemons import RunningDaemon
from torana.gateway.testing.recordings import Recording
from torana.gateway.testing.replay import replay

pytestmark = pytest.mark.needs("runc")
RECORDINGS = Path(__file__).resolve().parents[2] / "golden" / "wire"
NAMES = sorted(path.parent.name for path in RECORDINGS.glob("*/scenario.json"))

_OLD_REF = "the record is of another build here; its vertices name the recorded session"
_REGISTRY = "needs the registry of the recording"
_NO_PROVENANCE = "no provenance is made yet"

# What is different, by kind.
KNOWN: dict[str, dict[str, str]] = {
    "buildx-bake": {"inner": "two builds at once do not share what they receive from a client"},
    "buildx-history-logs": {"vertices": _OLD_REF},
    "buildx-oci": {"status": _NO_PROVENANCE},
    "buildx-stdin-context": {
        "inner": "secrets are not asked for the address of an upload, which needs none"
    },
    "cancel": {"vertices": "a step that was stopped says only `context canceled`"},
    "copy-missing": {
        "status": "the text does not name the cache record",
        "vertices": "so does its vertex; the step before it is done, not cancelled",
    },
    "debug-logs": {"vertices": _OLD_REF},
    "debug-logs-failed": {"vertices": _OLD_REF, "logs": _OLD_REF},
    "oci-layout-context": {"inner": "each blob is asked for once, not once per use of the image"},
}
# What cannot be played.
UNPLAYED = {
    "cache-export-local": "the recorded client answers for the blobs of the recording",
    "cache-import-local": "the name of an import has a number that is made in another way here",
    "buildx-history-inspect": "reads a provenance blob by its recorded digest",
    "debug-logs-trace": "reads the trace by its recorded digest",
    "frontend-gateway": _REGISTRY,
    "frontend-gateway-error": _REGISTRY,
    "frontend-syntax": _REGISTRY,
    "image-push-auth": _REGISTRY,
}
# Builds that the recorded command is about.
BUILT_BEFORE = {
    "buildx-history-logs": ["p18198vz2akcy0rab5oxfldm2"],
    "buildx-history-rm": ["oq36m31kmajtk0d1md4qp2u15"],
    "debug-logs": ["9ojf55aqk561hwr9514jy501y"],
    "debug-logs-failed": ["9xg1c6vr9qo8tohwlzbh5rrjh"],
    "history-delete": ["2iv4fnf4y7vjfsd97r1viizq5"],
    "history-pin": ["ym3hm6ifaxicbakvjj3ro3qno"],
    "prune-histories": ["vhxls6cjcunnyq09sbdsbgs4p", "vnvjfg4xxbdmgjjm8h99f554f"],
}


async def build(control: Any, ref: str) -> None:
    definition = scratch().file(mkfile("/a", b"hello")).marshal()
    message = ops_pb2.Definition.FromString(definition.encode())
    await control.Solve(pb.SolveRequest(Ref=ref, Definition=message))


async def build_meanwhile(control: Any) -> None:
    await asyncio.sleep(0.3)
    await build(control, "meanwhile")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNPLAYED])
async def test_a_recorded_conversation(
    name: str, channel: grpc.aio.Channel, daemon: RunningDaemon, tmp_path: Path
) -> None:
    control: Any = ControlStub(channel)
    async for _ in control.Prune(pb.PruneRequest(all=True)):
        pass
    for ref in BUILT_BEFORE.get(name, ()):
        await build(control, ref)
    recording = Recording.read(RECORDINGS / name)
    source, outputs = tmp_path / "src", tmp_path / "outputs"
    recording.make_context(RECORDINGS / name, source)
    async with asyncio.TaskGroup() as group:
        if name == "debug-monitor":
            group.create_task(build_meanwhile(control))
        replayed = await replay(recording, channel, source, outputs)
    found = differences(recording, replayed, outputs)
    known = KNOWN.get(name, {})
    assert [each for each in found if each.kind not in known] == []
    assert {each.kind for each in found} == set(known), (
        "a known difference is gone: shorten the table"
    )


def test_tables_name_recordings() -> None:
    assert {*KNOWN, *UNPLAYED, *BUILT_BEFORE} <= set(NAMES)
