"""`Recording`: a conversation of a stock client with the stock daemon, and perhaps of that with a
frontend, read from its folder.

Spec: tests/golden/wire/README.md.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from torana.core.records import dataclass
from torana.gateway.protocol.status_pb2 import Status

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that passed the recorder; `index` orders the whole conversation."""

    index: int
    kind: str  # call, headers, message, half-close, status, reset, ...
    sender: str  # client, daemon or frontend
    data: bytes = b""
    code: int = 0
    text: str = ""
    details: bytes = b""  # of a status that has some, all of it

    @property
    def is_client(self) -> bool:
        return self.sender == "client"

    def status(self) -> Status:
        """Give what an event of the kind `status` ended the call with."""
        if self.details:
            return Status.FromString(self.details)
        return Status(code=self.code, message=self.text)


@dataclass(slots=True)
class Rpc:
    """One call with all its events, in order."""

    number: int
    connection: str
    method: str  # full path
    caller: str  # client, daemon or frontend
    metadata: Metadata
    start: int  # index of its call
    events: list[Event] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.method.rpartition("/")[2]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """The metadata that is text."""
        return [(key, value) for key, value in self.metadata if isinstance(value, str)]

    def values(self, key: str) -> list[str]:
        """Give the texts of a key of the metadata, in order."""
        return [value for name, value in self.texts if name == key]

    @property
    def end(self) -> Event | None:
        """Its status or reset; None where the connection just ended."""
        found = (event for event in reversed(self.events) if event.kind in ("status", "reset"))
        return next(found, None)

    def ended_before(self, index: int | None) -> bool:
        """Say whether its status was there before the event `index`, or at all (None)."""
        found = [event.index for event in self.events if event.kind == "status"]
        return bool(found) and (index is None or found[0] < index)

    @property
    def status(self) -> tuple[int, str] | None:
        """Code and text that it ended with, None where it had no status."""
        found = (event for event in self.events if event.kind == "status")
        return next(((event.code, event.text) for event in found), None)

    def messages(self, *, of_caller: bool) -> list[bytes]:
        """Give the messages that one side sent."""
        return [
            event.data
            for event in self.events
            if event.kind == "message" and (event.sender == self.caller) is of_caller
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One command of a stock client."""

    name: str
    scenario: Mapping[str, Any]
    rpcs: Mapping[int, Rpc]  # by number

    @classmethod
    def read(cls, folder: Path) -> Recording:
        scenario = json.loads((folder / "scenario.json").read_text())
        rpcs: dict[int, Rpc] = {}
        for line in (folder / "events.jsonl").read_text().splitlines():
            raw = json.loads(line)
            number = raw.get("rpc")
            if number is None:
                continue
            if raw["ev"] == "call":
                rpcs[number] = Rpc(
                    number=number,
                    connection=raw["conn"],
                    method=raw["method"],
                    caller=_sender(raw),
                    metadata=_metadata(raw["metadata"]),
                    start=raw["i"],
                )
            rpcs[number].events.append(_event(raw))
        return cls(name=folder.name, scenario=scenario, rpcs=rpcs)

    @property
    def calls(self) -> list[Rpc]:
        """The client's own calls."""
        return self.of("", connection="c")

    @property
    def inner_calls(self) -> list[Rpc]:
        """What the daemon called inside of sessions."""
        return self.of("", connection="s")

    def of(self, method: str, *, connection: str = "") -> list[Rpc]:
        """Give the calls of a method, told by the end of its path, in order of their start."""
        return [
            rpc
            for rpc in self.rpcs.values()
            if rpc.method.endswith(method) and rpc.connection.startswith(connection)
        ]

    def make_context(self, recorded: Path, target: Path) -> None:
        """Make the client's working directory as it was before the command.

        `recorded` is the folder of the recording.
        """
        target.mkdir(parents=True, exist_ok=True)
        for entry in self.scenario["files"]:
            _make(entry, recorded / "context", target)
        for entry in reversed(self.scenario["files"]):
            if entry.get("type") != "symlink" and "mtime" in entry:
                seconds = entry["mtime"]
                os.utime(target / entry["path"], (seconds, seconds))
            elif "mtime" in entry:
                os.utime(target / entry["path"], (entry["mtime"],) * 2, follow_symlinks=False)


def _make(entry: Mapping[str, Any], source: Path, target: Path) -> None:
    path = target / entry["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if "hardlink" in entry:
        os.link(target / entry["hardlink"], path)
        return
    match entry["type"]:
        case "dir":
            path.mkdir(exist_ok=True)
        case "symlink":
            path.symlink_to(entry["target"])
            return
        case _ if "base64" in entry:
            path.write_bytes(base64.b64decode(entry["base64"]))
        case _:
            path.write_bytes((source / entry["path"]).read_bytes())
    path.chmod(int(entry["mode"], 8))


def _metadata(raw: Sequence[Sequence[str]]) -> Metadata:
    return tuple(
        (key, base64.b64decode(value) if key.endswith("-bin") else value) for key, value in raw
    )


def _sender(raw: Mapping[str, Any]) -> str:
    return str(raw["dir"]).partition("->")[0]


def _event(raw: Mapping[str, Any]) -> Event:
    return Event(
        index=raw["i"],
        kind=raw["ev"],
        sender=_sender(raw),
        data=base64.b64decode(raw.get("data", "")),
        code=raw.get("code", 0) if isinstance(raw.get("code", 0), int) else 0,
        text=raw.get("message", ""),
        details=next(
            (
                base64.b64decode(value)
                for key, value in raw.get("trailers", ())
                if key == "grpc-status-details-bin"
            ),
            b"",
        ),
    )
