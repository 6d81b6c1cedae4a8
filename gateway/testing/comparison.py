"""`differences`: what a daemon did against what is recorded of the stock one.

Spec: tests/golden/wire/README.md, the table of what must be equal.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from torana.gateway.protocol import control_pb2, errdefs_pb2, gateway_pb2
from torana.gateway.protocol.details import unpacked
from torana.gateway.protocol.errors import decode_status
from torana.gateway.testing.recordings import Recording, Rpc
from torana.gateway.testing.replay import Replayed, recorded_inner_calls

# What a client makes by itself around the blobs of a layout.
_CLIENTS_OWN: Final = frozenset({"out/index.json", "out/ingest", "out/oci-layout"})
# Details that are no part of the answer to the user, or name ids of the daemon.
_UNCOMPARED: Final = frozenset({"Stack", "Solve"})


class Difference(NamedTuple):
    """`kind` is one of status, details, inner, llb, vertices, logs, answer, files."""

    kind: str
    text: str


def differences(recording: Recording, replayed: Replayed, outputs: Path) -> list[Difference]:
    """Compare; nothing is left when the daemon did what the stock one did."""
    found: list[Difference] = []
    for rpc in recording.calls:
        found += _call(rpc, replayed)
    found += _inner(recording, replayed)
    found += _files(recording, replayed, outputs)
    return found


def _call(rpc: Rpc, replayed: Replayed) -> Iterator[Difference]:
    if rpc.status is None:
        return
    made = replayed.statuses.get(rpc.number, (-1, "nothing"))
    if rpc.name != "Session" and made != rpc.status:
        yield Difference("status", f"{rpc.name}: {made} instead of {rpc.status}")
    recorded, answers = rpc.messages(of_caller=False), replayed.answers.get(rpc.number, [])
    if rpc.status[0]:
        yield from _details(rpc, replayed)
    elif rpc.method.endswith("LLBBridge/Solve") and answers:
        yield from _llb(recorded[0], answers[0])
    elif rpc.name == "Status":
        yield from _progress(recorded, answers)
    elif rpc.method.endswith("Control/Solve") and answers:
        old, new = (control_pb2.SolveResponse.FromString(m) for m in (recorded[0], answers[0]))
        if set(old.ExporterResponse) != set(new.ExporterResponse):
            keys = sorted(set(old.ExporterResponse) ^ set(new.ExporterResponse))
            yield Difference("answer", f"keys of the exporters: {keys}")


def _details(rpc: Rpc, replayed: Replayed) -> Iterator[Difference]:
    data = next((e.details for e in rpc.events if e.kind == "status"), b"")
    old = _compared_details(data)
    new = _compared_details(replayed.details.get(rpc.number, b""))
    missing = [each for each in old if each not in new]
    more = [each for each in new if each not in old]
    if missing or more:
        yield Difference("details", f"{rpc.name}: missing {missing}, more {more}")


def _compared_details(trailer: bytes) -> list[Message]:
    found = list(unpacked(decode_status(trailer, 2, "")))
    for each in found:
        if isinstance(each, errdefs_pb2.Source):
            each.info.ClearField("definition")  # where the file was read: of no use to people
    return [each for each in found if type(each).__name__ not in _UNCOMPARED]


def _llb(recorded: bytes, made: bytes) -> Iterator[Difference]:
    old, new = (gateway_pb2.SolveResponse.FromString(m).result for m in (recorded, made))
    if _ops(old) != _ops(new):
        yield Difference("llb", "the ops of the result are other ones")
    if set(old.metadata) != set(new.metadata):
        keys = sorted(set(old.metadata) ^ set(new.metadata))
        yield Difference("answer", f"keys of the result's metadata: {keys}")
    for key in set(old.metadata) & set(new.metadata):
        if old.metadata[key] != new.metadata[key]:
            text = f"{new.metadata[key]!r} instead of {old.metadata[key]!r}"
            yield Difference("answer", f"result metadata {key}: {text}")


def _ops(result: gateway_pb2.Result) -> dict[str, set[bytes]]:
    refs = dict(result.refs.refs) if result.WhichOneof("result") == "refs" else {"": result.ref}
    return {key: set(getattr(getattr(ref, "def"), "def")) for key, ref in refs.items()}


def _progress(recorded: list[bytes], made: list[bytes]) -> Iterator[Difference]:
    (old, old_logs), (new, new_logs) = _vertices(recorded), _vertices(made)
    for digest in sorted(old.keys() | new.keys()):
        if old.get(digest) != new.get(digest):
            text = f"{new.get(digest)} instead of {old.get(digest)}"
            yield Difference("vertices", f"{digest[:19]}: {text}")
    if old_logs != new_logs:
        yield Difference("logs", f"{new_logs} instead of {old_logs}")


def _vertices(
    messages: list[bytes],
) -> tuple[dict[str, tuple[Any, ...]], Mapping[tuple[str, int], bytes]]:
    vertices: dict[str, tuple[Any, ...]] = {}
    logs: dict[tuple[str, int], bytes] = defaultdict(bytes)
    for message in messages:
        response = control_pb2.StatusResponse.FromString(message)
        for vertex in response.vertexes:
            vertices[vertex.digest] = (vertex.name, tuple(vertex.inputs), vertex.error)
        for log in response.logs:
            logs[log.vertex, log.stream] += log.msg
    return vertices, logs


def _inner(recording: Recording, replayed: Replayed) -> Iterator[Difference]:
    old = Counter(recorded_inner_calls(recording))
    new = Counter(replayed.inner_calls)
    if old != new:
        missing, more = list((old - new).elements()), list((new - old).elements())
        yield Difference("inner", f"missing {missing}, more {more}")


def _files(recording: Recording, replayed: Replayed, outputs: Path) -> Iterator[Difference]:
    """Compare folders that were exported, and archives whose times are fixed."""
    is_fixed = any("rewrite-timestamp=true" in text for text in recording.scenario["argv"])
    for entry in recording.scenario.get("written", []):
        if entry["path"] == "out.tar" and is_fixed:
            made = hashlib.sha256(replayed.files.get(0, b"")).hexdigest()
            if made != entry["sha256"]:
                yield Difference("files", "out.tar is another one")
            continue
        path = outputs / entry["path"]
        if not entry["path"].startswith("out/") or entry["path"] in _CLIENTS_OWN:
            continue
        found = _entry(path)
        wanted = {key: entry[key] for key in found if key in entry}
        if found | wanted != found or not found:
            yield Difference("files", f"{entry['path']}: {found} instead of {wanted or entry}")


def _entry(path: Path) -> dict[str, Any]:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return {}
    entry: dict[str, Any] = {"mode": f"{stat.S_IMODE(status.st_mode):04o}"}
    if stat.S_ISLNK(status.st_mode):
        return {"type": "symlink", "target": os.readlink(path)}
    entry["mtime"] = status.st_mtime_ns // 1_000_000_000
    if stat.S_ISDIR(status.st_mode):
        return {**entry, "type": "dir"}
    data = path.read_bytes()
    return {**entry, "type": "file", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
