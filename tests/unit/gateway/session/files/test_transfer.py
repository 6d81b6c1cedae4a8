"""Whole transfers in process: what arrives, what is asked for, what never happens."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.gateway.session.files.trees import Resources, listing, make_tree

from torana.core.errors import ToranaError
from torana.gateway.protocol import filemode
from torana.gateway.protocol.files_pb2 import Packet, Stat
from torana.gateway.session.files.order import ProtocolError
from torana.gateway.session.files.packets import TransferError
from torana.gateway.session.files.receiver import METADATA_FILE, ReceiveOptions, receive_tree
from torana.gateway.session.files.sender import send_tree
from torana.gateway.session.files.walk import EVERYTHING, FolderTree, Selection
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.local import MemoryStream, pipe

OWNER = (os.geteuid(), os.getegid())
SYNC = ReceiveOptions(write=WriteOptions(owner=OWNER))


class Counter:
    """A stream that counts the packets that pass it, by kind."""

    def __init__(self, stream: MemoryStream) -> None:
        self._stream = stream
        self.received: list[int] = []

    async def send(self, message: bytes) -> None:
        await self._stream.send(message)

    async def receive(self) -> bytes | None:
        message = await self._stream.receive()
        if message is not None:
            self.received.append(Packet.FromString(message).type)
        return message

    async def end(self) -> None:
        await self._stream.end()

    def count(self, kind: int) -> int:
        return self.received.count(kind)


async def transfer(
    source: Path,
    target: Path,
    options: ReceiveOptions = SYNC,
    selection: Selection = EVERYTHING,
) -> Counter:
    """Send `source` to `target`; gives what the sender got."""
    target.mkdir(exist_ok=True)
    caller, handler = pipe()
    counter = Counter(handler)
    with FolderTree(source, selection) as tree:

        async def serve() -> None:
            await send_tree(counter, tree)
            handler.finish(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(serve())
            group.create_task(receive_tree(caller, target, options, is_caller=True))
    return counter


async def test_everything_arrives(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    before = Resources.now()
    await transfer(tmp_path / "source", tmp_path / "target")
    assert listing(tmp_path / "target") == listing(tmp_path / "source")
    assert os.path.samefile(tmp_path / "target" / "a.txt", tmp_path / "target" / "z-hard")
    assert before.leaked() == []


async def test_only_what_has_changed_is_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_tree(source)
    first = await transfer(source, target)
    assert first.count(Packet.PACKET_REQ) == 9
    again = await transfer(source, target)
    assert again.count(Packet.PACKET_REQ) == 0
    (source / "a" / "b").write_bytes(b"changed")
    (source / "new").write_bytes(b"new")
    (source / "a.txt").unlink()
    os.rename(source / "empty-folder", source / "moved")
    (source / "link").unlink()
    (source / "link").mkdir()
    changed = await transfer(source, target)
    # z-hard is now the first of its links; it is there already.
    assert changed.count(Packet.PACKET_REQ) == 2
    assert listing(target) == listing(source)


async def test_differ_none_asks_for_all(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    options = ReceiveOptions(write=WriteOptions(owner=OWNER, compares=False))
    for _ in range(2):
        counter = await transfer(tmp_path / "source", tmp_path / "target", options)
        assert counter.count(Packet.PACKET_REQ) == 9
    assert listing(tmp_path / "target") == listing(tmp_path / "source")


async def test_types_may_change_in_every_direction(tmp_path: Path) -> None:
    def folder(path: Path) -> None:
        (path / "below").mkdir(parents=True)

    makers: list[Callable[[Path], object]] = [
        folder,
        lambda path: path.write_bytes(b"x"),
        lambda path: path.symlink_to("elsewhere"),
        lambda path: os.mkfifo(path),
    ]
    for first in makers:
        for second in makers:
            case = tmp_path / f"{makers.index(first)}-{makers.index(second)}"
            (case / "old").mkdir(parents=True)
            (case / "new").mkdir()
            first(case / "old" / "entry")
            second(case / "new" / "entry")
            await transfer(case / "old", case / "target")
            await transfer(case / "new", case / "target")
            assert listing(case / "target") == listing(case / "new")


async def test_merging_keeps_others_and_follows_no_link(tmp_path: Path) -> None:
    source, target, outside = tmp_path / "source", tmp_path / "target", tmp_path / "outside"
    (source / "out").mkdir(parents=True)
    (source / "out" / "file").write_bytes(b"mine")
    (source / "plain").write_bytes(b"mine")
    for folder in (target, outside):
        folder.mkdir()
    (outside / "file").write_bytes(b"precious")
    (target / "out").symlink_to(outside)
    (target / "plain").symlink_to(outside / "file")
    (target / "other").write_bytes(b"stays")
    options = ReceiveOptions(write=WriteOptions(owner=OWNER, keeps_others=True, compares=False))
    await transfer(source, target, options)
    assert (outside / "file").read_bytes() == b"precious"
    assert not (target / "out").is_symlink()
    assert (target / "out" / "file").read_bytes() == b"mine"
    assert (target / "plain").read_bytes() == b"mine"
    assert (target / "other").read_bytes() == b"stays"


async def test_metadata_only(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_tree(source)
    (source / METADATA_FILE.decode()).write_bytes(b"of the user")
    options = ReceiveOptions(
        write=WriteOptions(owner=OWNER), metadata_only=lambda path: path == "a/b"
    )
    counter = await transfer(source, target, options)
    assert counter.count(Packet.PACKET_REQ) == 1
    assert sorted(listing(target)) == [METADATA_FILE.decode(), "a", "a/b"]
    assert (target / "a" / "b").read_bytes() == b"in a folder"
    data, paths = (target / METADATA_FILE.decode()).read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "little")
        paths.append(Stat.FromString(data[4 : 4 + size]).path)
        data = data[4 + size :]
    assert paths[:4] == [b"a", b"a/b", b"a-b", b"a.txt"]
    assert len(paths) == len(listing(source)) - 1


async def test_a_file_that_cannot_be_read_fails_both_ends(tmp_path: Path) -> None:
    class Unreadable(FolderTree):
        def open(self, path: bytes) -> int | None:
            raise PermissionError(13, "Permission denied", path)

    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "f").write_bytes(b"x")
    (tmp_path / "target").mkdir()
    caller, handler = pipe()
    with Unreadable(tmp_path / "source") as tree:
        sending = asyncio.ensure_future(send_tree(handler, tree))
        with pytest.raises(TransferError, match=r"error from sender: .*Permission denied"):
            await receive_tree(caller, tmp_path / "target", SYNC, is_caller=True)
        with pytest.raises(PermissionError):
            await sending
    assert listing(tmp_path / "target") == {}


# A peer that is not ours


def entry(path: bytes, mode: int = 0o644, **fields: object) -> Packet:
    return Packet(stat=Stat(path=path, mode=mode, **fields))  # type: ignore[arg-type]


def folder(path: bytes) -> Packet:
    return entry(path, filemode.DIR | 0o755)


DATA = Packet(type=Packet.PACKET_DATA, ID=0, data=b"x")
END = Packet(type=Packet.PACKET_DATA, ID=0)
FIN = Packet(type=Packet.PACKET_FIN)

BAD_LISTS = {
    "escape check": [
        [entry(b"../x")],
        [entry(b"..")],
        [folder(b"a"), entry(b"a/../../x")],
        [entry(b"../../etc/passwd")],
    ],
    "absolute path": [[entry(b"/etc/passwd")], [entry(b"/")]],
    "unclean path": [
        [entry(b"")],
        [entry(b".")],
        [entry(b"./x")],
        [folder(b"a"), entry(b"a//x")],
        [folder(b"a/")],
        [entry(b"nul\0byte")],
    ],
    "changes out of order": [
        [entry(b"b"), entry(b"a")],
        [entry(b"a"), entry(b"a")],
        [folder(b"a"), entry(b"a-b"), entry(b"a/b")],
        [entry(b"a/b")],
        [entry(b"a"), entry(b"a/b")],
        [entry(b"a", filemode.SYMLINK | 0o777, linkname=b"/etc"), entry(b"a/passwd")],
        [folder(b"a"), folder(b"a/b"), folder(b"c"), entry(b"a/b/c")],
    ],
    "unknown path": [
        [entry(b"a", linkname=b"/etc/passwd")],
        [entry(b"a", linkname=b"b"), entry(b"b")],
        [folder(b"a"), entry(b"b", linkname=b"a")],
        [entry(b"a", filemode.SYMLINK, linkname=b"/etc/passwd"), entry(b"b", linkname=b"a")],
    ],
    "link without a target": [[entry(b"a", filemode.SYMLINK | 0o777)]],
    "unknown type of file": [[entry(b"a", filemode.IRREGULAR)]],
    "no such device number": [[entry(b"a", filemode.DEVICE | 0o600, devmajor=-5, devminor=-5)]],
    "name is too long": [[entry(b"x" * 300)]],
    "invalid file request": [[DATA], [END], [entry(b"a"), DATA, DATA, END, END]],
    "before it was complete": [[FIN], [entry(b"a"), FIN], []],
    "unexpected packet": [[Packet(type=Packet.PACKET_REQ)]],
    "error from sender: no more": [[Packet(type=Packet.PACKET_ERR, data=b"no more")]],
    "after the end of the list": [[Packet(), entry(b"a")]],
}


@pytest.mark.parametrize(
    ("text", "packets"),
    [(text, packets) for text, lists in BAD_LISTS.items() for packets in lists],
)
async def test_bad_senders_fail_and_leave_nothing_outside(
    tmp_path: Path, text: str, packets: list[Packet]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    before = Resources.now()
    caller, handler = pipe()
    for packet in packets:
        await handler.send(packet.SerializeToString())
    if "complete" in text:
        await handler.end()
    with pytest.raises(ToranaError, match=text):
        await receive_tree(caller, target, SYNC, is_caller=True)
    assert before.leaked() == []
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert not any(name.startswith(".torana-") for name in os.listdir(target))


async def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    caller, handler = pipe()
    before = Resources.now()

    async def send() -> None:
        path = b"d"
        for _ in range(2000):
            await handler.send(folder(path).SerializeToString())
            path += b"/d"

    sending = asyncio.ensure_future(send())
    with pytest.raises(ProtocolError, match="nested too deeply"):
        await receive_tree(caller, tmp_path, SYNC, is_caller=True)
    handler.finish(None)
    sending.cancel()
    await asyncio.wait([sending])
    assert before.leaked() == []
    # pytest removes old folders by recursion, which this one is too deep for.
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


async def test_garbage_is_refused(tmp_path: Path) -> None:
    caller, handler = pipe()
    await handler.send(b"\xff\xff\xff")
    with pytest.raises(ProtocolError, match="malformed packet"):
        await receive_tree(caller, tmp_path, SYNC, is_caller=True)


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (Packet(type=Packet.PACKET_REQ, ID=7), "invalid file id 7"),
        (Packet(type=Packet.PACKET_DATA), "unexpected packet"),
        (Packet(type=Packet.PACKET_ERR, data=b"disk full"), "error from receiver: disk full"),
        (None, "before it was complete"),
    ],
)
async def test_bad_receivers(tmp_path: Path, packet: Packet | None, text: str) -> None:
    make_tree(tmp_path / "source")
    before = Resources.now()
    caller, handler = pipe()
    if packet is not None:
        await caller.send(packet.SerializeToString())
    await caller.end()
    with pytest.raises(ToranaError, match=text):
        with FolderTree(tmp_path / "source") as tree:
            await send_tree(handler, tree)
    assert before.leaked() == []


async def test_a_file_may_be_asked_for_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    caller, handler = pipe()
    with FolderTree(tmp_path) as tree:
        sending = asyncio.ensure_future(send_tree(handler, tree))
        assert await caller.receive()
        for _ in range(2):
            await caller.send(Packet(type=Packet.PACKET_REQ).SerializeToString())
        with pytest.raises(ProtocolError, match="invalid file id 0"):
            await sending


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_end_in_an_error(tmp_path: Path, messages: list[bytes]) -> None:
    async def run() -> None:
        caller, handler = pipe()
        for message in messages:
            await handler.send(message)
        await handler.end()
        with pytest.raises(ToranaError):
            await receive_tree(caller, tmp_path, SYNC, is_caller=True)

    asyncio.run(run())
