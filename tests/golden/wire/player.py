"""Plays either side of recorded conversations, by the rules of README.md.

`RecordedClient` is a client as it was recorded: services that answer an engine's calls with what
the recorded client answered. `play` is an engine as it was recorded: it makes one recorded call to
a client, and gives what came back. Both work on the seam of sessions, so in process and through
tunnels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.golden.wire.recording import ROOT, is_unary

from torana.core.errors import ToranaError
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.protocol.errors import error_of, status_of
from torana.gateway.protocol.files_pb2 import Packet, Stat
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    Stream,
    Streaming,
    Unary,
    status_code,
)
from torana.gateway.testing.recordings import Recording, Rpc

KEYS = (
    "dir-name",
    "followpaths",
    "include-patterns",
    "exclude-patterns",
    "buildkit-attachable-exporter-id",
    "buildkit-attachable-store-id",
    "urlpath",
)
FILE_SYNC = "/moby.filesync.v1.FileSync/DiffCopy"
FILE_SEND = "/moby.filesync.v1.FileSend/DiffCopy"
HEALTH = "/grpc.health.v1.Health/"
SERVING = b"\x08\x01"


def make_context(recording: Recording, folder: Path) -> None:
    """Make the working directory of a recorded client, with the times and modes it had."""
    recording.make_context(ROOT / recording.name, folder)


@dataclass(slots=True)
class Tree:
    """One transfer of the file protocol: entries in order, contents by number."""

    stats: list[Stat] = field(default_factory=list)
    contents: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Sequence[bytes]) -> Tree:
        """Read what a sender sent."""
        tree = cls()
        for message in messages:
            tree.take(Packet.FromString(message))
        return tree

    def take(self, packet: Packet) -> None:
        if packet.type == Packet.PACKET_STAT and packet.HasField("stat"):
            self.stats.append(packet.stat)
        elif packet.type == Packet.PACKET_DATA:
            self.contents[packet.ID] = self.contents.get(packet.ID, b"") + packet.data


@dataclass(slots=True)
class Played:
    """What came back of a call: messages, the error that ended it, and the tree it carried."""

    answers: list[bytes] = field(default_factory=list)
    error: ToranaError | None = None
    tree: Tree | None = None

    @property
    def code(self) -> int:
        return 0 if self.error is None else status_of(self.error, status_code(self.error)).code


def carries_packets(rpc: Rpc) -> bool:
    """Tell whether the file protocol is spoken."""
    return rpc.method == FILE_SYNC or (
        rpc.method == FILE_SEND and bool(rpc.messages(of_caller=False))
    )


# The engine's side


async def play(session: Session, rpc: Rpc, *, is_unary: bool) -> Played:
    """Make a recorded call of an engine to a client."""
    played = Played()
    metadata = [(key, value) for key, value in rpc.texts]
    sent = rpc.messages(of_caller=True)
    try:
        if is_unary:
            played.answers.append(await session.unary(rpc.method, sent[0], metadata))
            return played
        async with session.stream(rpc.method, metadata) as stream:
            if rpc.method == FILE_SYNC:
                played.tree = await _receive_tree(stream, rpc)
            elif carries_packets(rpc):
                await _send_tree(stream, sent, played)
            else:
                await _count(stream, rpc, played)
    except ToranaError as err:
        played.error = err
    return played


async def _receive_tree(stream: Stream, rpc: Rpc) -> Tree:
    """Ask for the files that were asked for, each when it has been listed."""
    wanted = {
        packet.ID
        for packet in map(Packet.FromString, rpc.messages(of_caller=True))
        if packet.type == Packet.PACKET_REQ
    }
    tree, pending, is_listed = Tree(), set(wanted), False
    while (message := await stream.receive()) is not None:
        packet = Packet.FromString(message)
        if packet.type == Packet.PACKET_STAT:
            is_listed = not packet.HasField("stat")
            number = len(tree.stats)
            if not is_listed and number in wanted:
                await stream.send(Packet(type=Packet.PACKET_REQ, ID=number).SerializeToString())
        elif packet.type == Packet.PACKET_DATA and not packet.data:
            pending.remove(packet.ID)
        tree.take(packet)
        if packet.type == Packet.PACKET_FIN:
            await stream.end()
        elif is_listed and not pending:
            await stream.send(Packet(type=Packet.PACKET_FIN).SerializeToString())
            is_listed = False
    return tree


async def _send_tree(stream: Stream, sent: Sequence[bytes], played: Played) -> None:
    """Send a recorded tree: its entries, what is asked for, FIN after FIN; then hang up."""
    data: dict[int, list[bytes]] = {}
    for message in sent:
        packet = Packet.FromString(message)
        if packet.type == Packet.PACKET_STAT:
            await stream.send(message)
        elif packet.type == Packet.PACKET_DATA:
            data.setdefault(packet.ID, []).append(message)
    while (answer := await stream.receive()) is not None:
        played.answers.append(answer)
        packet = Packet.FromString(answer)
        if packet.type == Packet.PACKET_REQ:
            for message in data.pop(packet.ID):
                await stream.send(message)
        elif packet.type == Packet.PACKET_FIN:
            await stream.send(answer)
            return


async def _count(stream: Stream, rpc: Rpc, played: Played) -> None:
    """Send each message when as many have come as had before it in the recording."""
    expected = 0
    for event in rpc.events:
        if event.kind == "half-close":
            await stream.end()
        elif event.kind == "message" and event.sender != rpc.caller:
            expected += 1
        elif event.kind == "message":
            while len(played.answers) < expected:
                answer = await stream.receive()
                if answer is None:
                    return
                played.answers.append(answer)
            await stream.send(event.data)
    await stream.end()
    while (answer := await stream.receive()) is not None:
        played.answers.append(answer)


# The client's side


class RecordedClient:
    """The services of one session as they were recorded; `conn` is its connection (`s1`)."""

    def __init__(self, recording: Recording, conn: str) -> None:
        self._rpcs = [rpc for rpc in recording.rpcs.values() if rpc.connection == conn]
        session = recording.rpcs[
            next(c["rpc"] for c in recording.scenario["connections"] if c["id"] == conn)
        ]
        self.metadata = session.texts
        self._methods = session.values("x-docker-expose-session-grpc-method")
        self._used: set[int] = set()
        self.unexpected: list[str] = []
        self.requests: dict[int, list[bytes]] = {}  # what the engine sent, by number of RPC

    @property
    def id(self) -> str:
        return dict(self.metadata)["x-docker-expose-session-uuid"]

    @property
    def shared_key(self) -> str:
        return dict(self.metadata)["x-docker-expose-session-sharedkey"]

    def unplayed(self) -> list[Rpc]:
        """Give the recorded calls that have not come."""
        return [
            rpc
            for rpc in self._rpcs
            if rpc.number not in self._used and not rpc.method.startswith(HEALTH)
        ]

    def methods(self) -> Mapping[str, Handler]:
        unary = {rpc.method for rpc in self._rpcs if is_unary(rpc)}
        handlers: dict[str, Handler] = {}
        for method in self._methods:
            if not method.startswith(HEALTH):
                kind = self._unary if method in unary else self._streaming
                handlers[method] = kind(method)
        return handlers

    def _unary(self, method: str) -> Unary:
        async def call(request: bytes, metadata: Metadata) -> bytes:
            rpc = self._match(method, metadata, request)
            self.requests[rpc.number] = [request]
            _end(rpc)
            return rpc.messages(of_caller=False)[0]

        return Unary(call)

    def _streaming(self, method: str) -> Streaming:
        async def call(stream: Stream, metadata: Metadata) -> None:
            first = None if method in (FILE_SYNC, FILE_SEND) else await stream.receive()
            rpc = self._match(method, metadata, first)
            received = self.requests[rpc.number] = [] if first is None else [first]
            if method == FILE_SYNC:
                await _serve_tree(stream, rpc)
            elif carries_packets(rpc):
                await _take_tree(stream, received)
            else:
                await _answer(stream, rpc, received)
            _end(rpc)

        return Streaming(call)

    def _match(self, method: str, metadata: Metadata, first: bytes | None) -> Rpc:
        """Find the recorded call that this one is: by method, metadata, and first message."""
        found = [
            rpc
            for rpc in self._rpcs
            if rpc.method == method
            and rpc.number not in self._used
            and _selects(rpc.texts) == _selects(metadata)
        ]
        if first is not None:
            same = [rpc for rpc in found if rpc.messages(of_caller=True)[:1] == [first]]
            found = same or found
        if not found:
            self.unexpected.append(f"{method} {_selects(metadata)}")
            raise ToranaError(f"not in the recording: {method}")
        self._used.add(found[0].number)
        return found[0]


def _selects(metadata: Metadata) -> dict[str, set[str]]:
    return {key: {v for k, v in metadata if k == key} for key in KEYS}


def _end(rpc: Rpc) -> None:
    """Raise what the recorded client answered, if it failed."""
    end = rpc.end
    if end is not None and end.kind == "status" and end.code:
        raise error_of(end.status())


async def _serve_tree(stream: Stream, rpc: Rpc) -> None:
    """Send the recorded entries, each file when it is asked for, and FIN after FIN."""
    data: dict[int, list[bytes]] = {}
    for message in rpc.messages(of_caller=False):
        packet = Packet.FromString(message)
        if packet.type == Packet.PACKET_STAT:
            await stream.send(message)
        elif packet.type == Packet.PACKET_DATA:
            data.setdefault(packet.ID, []).append(message)
        elif packet.type == Packet.PACKET_ERR:
            await stream.send(message)
    while (answer := await stream.receive()) is not None:
        packet = Packet.FromString(answer)
        if packet.type == Packet.PACKET_REQ:
            for message in data.pop(packet.ID):
                await stream.send(message)
        elif packet.type == Packet.PACKET_FIN:
            await stream.send(answer)
            return


async def _take_tree(stream: Stream, received: list[bytes]) -> None:
    """Ask for every file, as clients do for exports; `received` gets all packets."""
    number, pending, is_listed = 0, set(), False
    while (message := await stream.receive()) is not None:
        received.append(message)
        packet = Packet.FromString(message)
        match packet.type:
            case Packet.PACKET_STAT if packet.HasField("stat"):
                if not packet.stat.mode & 0x8F280000 and not packet.stat.linkname:
                    pending.add(number)
                    request = Packet(type=Packet.PACKET_REQ, ID=number)
                    await stream.send(request.SerializeToString())
                number += 1
            case Packet.PACKET_STAT:
                is_listed = True
            case Packet.PACKET_DATA if not packet.data:
                pending.discard(packet.ID)
            case Packet.PACKET_FIN:
                return
        if is_listed and not pending:
            is_listed = False
            await stream.send(Packet(type=Packet.PACKET_FIN).SerializeToString())


async def _answer(stream: Stream, rpc: Rpc, received: list[bytes]) -> None:
    """Answer by the counting rule, where messages come in answer to others; then read on."""
    has_ended = False
    for event in rpc.events:
        if event.kind != "message" or event.sender == rpc.caller:
            continue
        before = sum(
            1
            for other in rpc.events
            if other.index < event.index and other.kind == "message" and other.sender == rpc.caller
        )
        while len(received) < before and not has_ended:
            message = await stream.receive()
            has_ended = message is None
            if message is not None:
                received.append(message)
        await stream.send(event.data)
    while not has_ended:
        message = await stream.receive()
        has_ended = message is None
        if message is not None:
            received.append(message)


def file_content(messages: Sequence[bytes]) -> bytes:
    """Join the pieces of a file."""
    return b"".join(BytesMessage.FromString(message).data for message in messages)
