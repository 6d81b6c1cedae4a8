"""`Recording`: a conversation of a stock client with the stock daemon, read from its folder.

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

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that passed the recorder; `is_client` says who sent it."""

    index: int
    kind: str  # call, headers, message, half-close, status, reset, ...
    is_client: bool
    data: bytes = b""
    code: int = 0
    text: str = ""
    trailers: bytes = b""  # of a status: its details


@dataclass(slots=True)
class Rpc:
    """One call with all its events, in order. `inner` calls were made by the daemon."""

    number: int
    connection: str
    method: str
    metadata: Metadata
    start: int  # index of its call
    events: list[Event] = field(default_factory=list)

    @property
    def is_inner(self) -> bool:
        return self.connection.startswith("s")

    @property
    def name(self) -> str:
        return self.method.rpartition("/")[2]

    @property
    def end(self) -> int | None:
        """Index of its status, None where it had none."""
        return next((event.index for event in self.events if event.kind == "status"), None)

    @property
    def status(self) -> tuple[int, str] | None:
        """Code and text that it ended with, None where it had no status."""
        found = (event for event in self.events if event.kind == "status")
        return next(((event.code, event.text) for event in found), None)

    def messages(self, *, is_client: bool) -> list[bytes]:
        """Give what one side sent."""
        return [e.data for e in self.events if e.kind == "message" and e.is_client == is_client]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One command of a stock client."""

    name: str
    scenario: Mapping[str, Any]
    rpcs: Sequence[Rpc]

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
                    number, raw["conn"], raw["method"], _metadata(raw["metadata"]), raw["i"]
                )
            rpcs[number].events.append(_event(raw))
        return cls(name=folder.name, scenario=scenario, rpcs=list(rpcs.values()))

    @property
    def calls(self) -> list[Rpc]:
        """The client's own calls."""
        return [rpc for rpc in self.rpcs if rpc.connection.startswith("c")]

    @property
    def inner_calls(self) -> list[Rpc]:
        """What the daemon called inside of sessions."""
        return [rpc for rpc in self.rpcs if rpc.is_inner]

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


def _event(raw: Mapping[str, Any]) -> Event:
    return Event(
        index=raw["i"],
        kind=raw["ev"],
        is_client=raw["dir"].startswith("client->"),
        data=base64.b64decode(raw.get("data", "")),
        code=raw.get("code", 0) if isinstance(raw.get("code", 0), int) else 0,
        text=raw.get("message", ""),
        trailers=next(
            (
                base64.b64decode(value)
                for key, value in raw.get("trailers", ())
                if key == "grpc-status-details-bin"
            ),
            b"",
        ),
    )
