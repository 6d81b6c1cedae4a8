"""Folders of a client, in process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.gateway.session.files.trees import Resources, listing, make_tree

from torana.gateway.session.files.receiver import ReceiveOptions
from torana.gateway.session.files.walk import Selection
from torana.gateway.session.files.writer import WriteOptions
from torana.gateway.session.filesync import (
    FileSync,
    FolderNotOfferedError,
    FolderRequest,
    read_metadata,
    receive_folder,
    write_metadata,
)
from torana.gateway.session.local import LocalSession
from torana.gateway.session.transport import SessionLostError

OPTIONS = ReceiveOptions(write=WriteOptions(owner=(os.geteuid(), os.getegid())))


async def test_a_folder_arrives_by_name(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "target").mkdir()
    before = Resources.now()
    session = LocalSession([FileSync({"context": tmp_path / "source"})])
    request = FolderRequest(name="context", exclude=["big"])
    await receive_folder(session, request, tmp_path / "target", OPTIONS)
    expected = listing(tmp_path / "source")
    del expected["big"]
    assert listing(tmp_path / "target") == expected
    assert before.leaked() == []


async def test_only_offered_folders_are_given(tmp_path: Path) -> None:
    session = LocalSession([FileSync({})])
    with pytest.raises(FolderNotOfferedError, match=r'no access allowed to dir "../etc"'):
        await receive_folder(session, FolderRequest(name="../etc"), tmp_path, OPTIONS)
    with pytest.raises(FolderNotOfferedError, match="no local sources enabled"):
        await receive_folder(LocalSession([]), FolderRequest(name="x"), tmp_path, OPTIONS)


async def test_a_session_that_closes_fails_its_transfer(tmp_path: Path) -> None:
    make_tree(tmp_path / "source")
    (tmp_path / "target").mkdir()
    before = Resources.now()
    session = LocalSession([FileSync({"context": tmp_path / "source"})])
    options = ReceiveOptions(write=OPTIONS.write, on_bytes=lambda size: session.close())
    with pytest.raises(SessionLostError):
        await receive_folder(session, FolderRequest(name="context"), tmp_path / "target", options)
    assert before.leaked() == []


def test_values_are_escaped_only_where_they_must_be() -> None:
    request = FolderRequest(name="a b%", include=["x+y", "z"], exclude=["grüße +", "b"])
    assert write_metadata(request) == [
        ("dir-name", "a b%"),
        ("include-patterns", "x+y"),
        ("include-patterns", "z"),
        ("exclude-patterns-encoded", "1"),
        ("exclude-patterns", "gr%C3%BC%C3%9Fe+%2B"),
        ("exclude-patterns", "b"),
    ]


@given(st.text(), st.lists(st.text()), st.lists(st.text()))
def test_reading_undoes_writing(name: str, include: list[str], follow: list[str]) -> None:
    request = FolderRequest(name=name, include=include, follow_paths=follow)
    selection = Selection(include=tuple(include), follow_paths=tuple(follow))
    assert read_metadata(write_metadata(request)) == (name, selection)
    assert all(value.isascii() for _, value in write_metadata(request))
