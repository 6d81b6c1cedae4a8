"""Exports into a client: files, trees, blobs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from torana.core.content.store import ContentStore
from torana.core.errors import ToranaError, UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.pool import run_blocking
from torana.gateway.daemon.output import SessionOutput
from torana.gateway.session.contents import Contents
from torana.gateway.session.filesend import FileSend, FileTarget, FolderTarget, Target
from torana.gateway.session.layout import LayoutStore
from torana.gateway.session.local import LocalSession
from torana.plugins.exporter import OutputTree


def output(target: Target, *, number: int = 0) -> SessionOutput:
    return SessionOutput(LocalSession([FileSend({number: target})]), number)


def target(path: Path, answers: list[Mapping[str, str]]) -> FileTarget:
    @contextmanager
    def whole() -> Iterator[BinaryIO]:
        draft = path.with_suffix(".draft")
        with open(draft, "wb") as file:
            yield file
        draft.rename(path)

    def open_(answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO]:
        answers.append(answer)
        return whole()

    return FileTarget(open_)


def tree(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


async def test_a_file_is_written_in_pieces_from_a_thread(tmp_path: Path) -> None:
    answers: list[Mapping[str, str]] = []
    made = output(target(tmp_path / "x", answers), number=3)
    data = os.urandom(3_000_000)

    def write() -> None:
        with made.file({"image.name": "a:1"}) as file:
            file.write(data[:10])
            file.write(data[10:])

    await run_blocking(write)
    assert (tmp_path / "x").read_bytes() == data
    assert answers == [{"image.name": "a:1"}]


async def test_a_file_that_is_given_up_does_not_appear(tmp_path: Path) -> None:
    made = output(target(tmp_path / "x", []))

    def write() -> None:
        with made.file() as file:
            file.write(b"half")
            file.flush()
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        await run_blocking(write)
    assert not (tmp_path / "x").exists()


async def test_what_the_client_fails_with_is_raised_in_the_thread(tmp_path: Path) -> None:
    def refuse(answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO]:
        raise UserError("not here")

    made = output(FileTarget(refuse))

    def write() -> None:
        with made.file() as file:
            for _ in range(50):
                file.write(bytes(1 << 20))

    with pytest.raises(ToranaError, match="not here"):
        await run_blocking(write)


async def test_trees_of_platforms_go_into_folders_of_their_own(tmp_path: Path) -> None:
    first = tree(tmp_path / "1", a="one", sub__b="two")
    os.link(first / "a", first / "z")
    (first / "link").symlink_to("a")
    second = tree(tmp_path / "2", a="other")
    target = tree(tmp_path / "out", kept="kept")
    trees = [
        OutputTree(root=first, prefix="linux_amd64", epoch=1_000_000_000),
        OutputTree(root=second, prefix="linux_arm64"),
    ]
    await output(FolderTarget(target)).send_trees(trees, deletes=False)
    amd64 = target / "linux_amd64"
    assert sorted(os.listdir(amd64)) == ["a", "link", "sub", "z"]
    assert (amd64 / "a").samefile(amd64 / "z") and os.readlink(amd64 / "link") == "a"
    assert (amd64 / "sub" / "b").stat().st_mtime == 1_000_000_000
    assert (target / "linux_arm64" / "a").read_text() == "other"
    assert (target / "kept").exists()


async def test_deleting_leaves_only_what_was_sent(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "1", sub__a="1"), tree(tmp_path / "2", sub__b="2", c="3")
    target = tree(tmp_path / "out", old="old", sub__old="old")
    trees = [OutputTree(root=first), OutputTree(root=second)]
    await output(FolderTarget(target, deletes=True)).send_trees(trees, deletes=True)
    found = sorted(str(path.relative_to(target)) for path in target.rglob("*"))
    assert found == ["c", "sub", "sub/a", "sub/b"]


async def test_a_file_of_two_platforms_is_refused(tmp_path: Path) -> None:
    trees = [OutputTree(root=tree(tmp_path / str(n), same="x")) for n in (1, 2)]
    (tmp_path / "out").mkdir()
    with pytest.raises(ToranaError, match="cannot overwrite same from another platform"):
        await output(FolderTarget(tmp_path / "out", deletes=True)).send_trees(trees, deletes=True)


async def test_nothing_is_an_empty_folder(tmp_path: Path) -> None:
    target = tree(tmp_path / "out", old="old")
    await output(FolderTarget(target, deletes=True)).send_trees(
        [OutputTree(root=None)], deletes=True
    )
    assert os.listdir(target) == []


async def test_blobs_go_into_the_client_s_store(tmp_path: Path) -> None:
    content = ContentStore(tmp_path / "content")
    data = os.urandom(2_500_000)
    digest = content.add(data)
    blob = Descriptor(media_type="x", digest=digest, size=len(data))
    store = LayoutStore(tmp_path / "layout", is_writable=True)
    made = SessionOutput(LocalSession([Contents({"export": store})]), 0)
    await made.put_blobs([blob, blob], content)
    assert store.read(digest, 0, len(data)) == data
