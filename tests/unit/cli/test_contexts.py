"""Where PATH, -f and --local lead."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torana.cli.contexts import Inputs, read_inputs
from torana.core.errors import UsageError


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def archive(kind: str, *members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    mode: Any = f"w:{kind}"
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, text in {"Dockerfile": "FROM scratch\n", "src/a": "a"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        for member in members:
            tar.addfile(member)
    return out.getvalue()


def test_a_folder(tmp_path: Path, scratch: Path) -> None:
    folders = {"context": tmp_path, "dockerfile": tmp_path}
    assert read_inputs(str(tmp_path), None, (), scratch) == Inputs(folders)
    other = tmp_path / "other" / "Build.file"
    other.parent.mkdir()
    other.touch()
    assert read_inputs(str(tmp_path), str(other), ("up=.",), scratch) == Inputs(
        {"context": tmp_path, "dockerfile": other.parent, "up": Path.cwd()},
        {"filename": "Build.file"},
    )


def test_a_build_file_from_standard_input(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, b"FROM scratch\n")
    inputs = read_inputs(str(tmp_path), "-", (), scratch)
    assert inputs == Inputs({"context": tmp_path, "dockerfile": scratch})
    assert (scratch / "Dockerfile").read_bytes() == b"FROM scratch\n"


def test_only_a_build_file(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"FROM scratch\n")
    context = read_inputs("-", None, (), scratch).folders["context"]
    assert os.listdir(context) == ["Dockerfile"]
    pipe(monkeypatch, b"FROM scratch\n")
    with pytest.raises(UsageError, match="standard input is no archive"):
        read_inputs("-", "x", (), _new(scratch, "second"))
    with pytest.raises(UsageError, match="cannot both be standard input"):
        read_inputs("-", "-", (), scratch)


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "xz"])
def test_an_archive(scratch: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    pipe(monkeypatch, archive(kind))
    inputs = read_inputs("-", None, (), scratch)
    assert (inputs.folders["context"] / "src/a").read_text() == "a"
    assert inputs.folders["dockerfile"] == inputs.folders["context"]
    assert os.listdir(scratch) == ["context"]


def test_archives_cannot_leave_their_folder(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = tarfile.TarInfo("../evil")
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    through = tarfile.TarInfo("link/evil")
    for members in ([evil], [link, through]):
        place = _new(scratch, str(len(members)))
        pipe(monkeypatch, archive("gz", *members))
        with pytest.raises(UsageError, match="no readable archive"):
            read_inputs("-", None, (), place)
        assert not (place / "evil").exists()
    pipe(monkeypatch, archive("gz")[:60])
    with pytest.raises(UsageError, match="no readable archive"):
        read_inputs("-", None, (), _new(scratch, "short"))


@pytest.mark.parametrize(
    "address", ["https://host/x.git#main", "git@host:x.git", "github.com/a/b", "git://h/x"]
)
def test_an_address(tmp_path: Path, scratch: Path, address: str) -> None:
    assert read_inputs(address, None, (), scratch) == Inputs({}, {"context": address})
    inside = read_inputs(address, "docker/Build", (), scratch)
    assert inside == Inputs({}, {"context": address, "filename": "docker/Build"})
    ours = tmp_path / "Dockerfile"
    ours.touch()
    assert read_inputs(address, str(ours), (), scratch) == Inputs(
        {"dockerfile": tmp_path},
        {"context": address, "dockerfilekey": "dockerfile", "filename": "Dockerfile"},
    )


@pytest.mark.parametrize(
    "path, file, locals_, message",
    [
        ("missing", None, (), "PATH: no such folder: `missing`"),
        (".", "missing", (), "build file not found: `missing`"),
        (".", None, ("x",), "must be NAME=FOLDER"),
        (".", None, ("x=missing",), "--local: no such folder"),
    ],
)
def test_mistakes(
    scratch: Path, path: str, file: str | None, locals_: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_inputs(path, file, locals_, scratch)


def _new(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder
