"""`Inputs`: the folders and frontend options that PATH, `-f` and `--local` stand for.

PATH is a folder, `-` (a build file or an archive on standard input), or an address: a git
repository, an archive or a single build file on the web, which the build itself fetches.
"""

from __future__ import annotations

import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.errors import UsageError
from torana.core.records import dataclass

_BUILD_FILE: Final = "Dockerfile"
_YAML_FILE: Final = "build.yaml"
_LAYOUT: Final = "oci-layout://"
_ADDRESS: Final = re.compile(r"(https?|git|ssh)://|git@|github\.com/")
_MAGIC: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Inputs:
    """Folders of this machine by the name frontends use, and options that go with them."""

    folders: Mapping[str, Path]
    options: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, Path] = field(default_factory=dict)  # OCI layouts by name


@contextmanager
def scratch_folder(path: str | None, file: str | None) -> Iterator[Path | None]:
    """Have a folder for what PATH and `-f` take from standard input; None where they do not.

    A build that is killed leaves its folder behind, so that only those have one that use it.
    """
    if "-" not in (path, file):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="torana-") as folder:
        yield Path(folder)


def read_inputs(
    path: str, file: str | None, locals_: Sequence[str], scratch: Path | None
) -> Inputs:
    """Read PATH and `-f`; `scratch` is an empty folder for what comes from standard input.

    Raises:
        UsageError: something does not exist, or standard input is asked for twice.
    """
    named = read_locals(locals_)
    if path == "-" and file == "-":
        raise UsageError("PATH and -f cannot both be standard input")
    if path == "-":
        context, is_build_file = _unpack_stdin(_needed(scratch), sys.stdin.buffer)
        if is_build_file and file is not None:
            raise UsageError(
                "-f is given, but standard input is no archive",
                hint="give PATH as a folder, or an archive of one",
            )
        return _in_folder(context, None if file is None else context / file, named)
    if _ADDRESS.match(path):
        return _at_address(path, file, named, scratch)
    return _in_folder(folder_of(path, "PATH"), _build_file(file, scratch), named)


def read_locals(locals_: Sequence[str]) -> dict[str, Path]:
    """Read `--local NAME=FOLDER`.

    Raises:
        UsageError: malformed, or no such folder.
    """
    named = {}
    for text in locals_:
        name, equals, folder = text.partition("=")
        if not equals or not name:
            raise UsageError(f"invalid --local: must be NAME=FOLDER: `{text}`")
        named[name] = folder_of(folder, "--local")
    return named


def read_build_contexts(texts: Sequence[str]) -> Inputs:
    """Read `--build-context NAME=FOLDER|ADDRESS`.

    Raises:
        UsageError: malformed, or no such folder.
    """
    folders: dict[str, Path] = {}
    layouts: dict[str, Path] = {}
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"invalid --build-context: must be NAME=FOLDER|ADDRESS: `{text}`")
        if value.startswith(_LAYOUT):
            layouts[name], digest = _layout(name, value.removeprefix(_LAYOUT))
            options[f"context:{name}"] = f"{_LAYOUT}{name}@{digest}"
            continue
        if value.startswith("docker-image://") or _ADDRESS.match(value):
            options[f"context:{name}"] = value
            continue
        # The names of the main folders are taken.
        local = f"_{name}" if name in ("context", "dockerfile") else name
        folders[local] = folder_of(value, f"--build-context {name}")
        options[f"context:{name}"] = f"local:{local}"
    return Inputs(folders, options, layouts)


def _layout(name: str, text: str) -> tuple[Path, str]:
    """Read `FOLDER[:TAG][@DIGEST]`; gives the folder of the layout and the digest of the image."""
    path, _, digest = text.partition("@")
    folder, colon, tag = path.rpartition(":")
    if not colon or "/" in tag or Path(path).is_dir():
        folder, tag = path, ""
    found = folder_of(folder, f"--build-context {name}")
    if digest:
        return found, digest
    from torana.plugins.registry.layout import LayoutError, find_digest

    try:
        return found, find_digest(found, tag)
    except LayoutError as err:
        raise UsageError(f"--build-context {name}: {err.message}", hint=err.hint) from None


def folder_of(path: str, what: str) -> Path:
    """Give an existing folder, links resolved.

    Raises:
        UsageError: there is none; `what` is where it was asked for.
    """
    folder = Path(path).absolute()
    if not folder.exists():
        raise UsageError(f"{what}: no such folder: `{path}`")
    if not folder.is_dir():
        raise UsageError(
            f"{what}: not a folder: `{path}`", hint="the build file itself is named by -f"
        )
    return folder.resolve()


def _in_folder(context: Path, build_file: Path | None, named: Mapping[str, Path]) -> Inputs:
    found = build_file or _usual(context)
    folders = {"context": context, "dockerfile": found.parent, **named}
    options = {} if found.name == _BUILD_FILE else {"filename": found.name}
    return Inputs(folders, options)


def _usual(context: Path) -> Path:
    """Give the build file of a folder: a Dockerfile, or `build.yaml` where there is none."""
    has_dockerfile = any((context / n).exists() for n in (_BUILD_FILE, _BUILD_FILE.lower()))
    is_yaml = not has_dockerfile and (context / _YAML_FILE).is_file()
    return context / (_YAML_FILE if is_yaml else _BUILD_FILE)


def _at_address(
    address: str, file: str | None, named: Mapping[str, Path], scratch: Path | None
) -> Inputs:
    """A build file of our own goes along; else `-f` is a path inside of what is fetched."""
    options = {"context": address}
    if file is not None and (file == "-" or Path(file).is_absolute()):
        found = _build_file(file, scratch)
        assert found is not None
        options |= {"dockerfilekey": "dockerfile", "filename": found.name}
        return Inputs({"dockerfile": found.parent, **named}, options)
    if file is not None:
        options["filename"] = file
    return Inputs(dict(named), options)


def _build_file(file: str | None, scratch: Path | None) -> Path | None:
    if file is None:
        return None
    if file == "-":
        target = _needed(scratch) / _BUILD_FILE
        target.write_bytes(sys.stdin.buffer.read())
        return target
    found = Path(file).absolute()
    if not found.is_file():
        raise UsageError(
            f"build file not found: `{file}`",
            hint="-f is relative to the folder you are in, not to PATH",
        )
    return found


def _needed(scratch: Path | None) -> Path:
    if scratch is None:
        raise UsageError("this command does not read standard input")
    return scratch


def _unpack_stdin(scratch: Path, stream: BinaryIO) -> tuple[Path, bool]:
    """Give the folder of an archive's files, or one with just a build file, and which it is."""
    context = scratch / "context"
    context.mkdir()
    head = stream.read(_BLOCK)
    if not head.startswith(_MAGIC) and head[257:262] != b"ustar":
        (context / _BUILD_FILE).write_bytes(head + stream.read())
        return context, True
    archive = scratch / "archive"
    with open(archive, "wb") as file:
        file.write(head)
        while chunk := stream.read(1 << 20):
            file.write(chunk)
    try:
        _extract(archive, context)
    except (tarfile.TarError, EOFError, OSError) as err:
        raise UsageError(f"standard input is no readable archive: {err}") from err
    archive.unlink()
    return context, False


def _extract(archive: Path, folder: Path) -> None:
    """Unpack inside `folder` whatever the archive's names and links say."""
    from torana.core.content.compression import open_compressed

    with (
        open(archive, "rb") as file,
        open_compressed(file) as plain,
        tarfile.open(fileobj=plain, mode="r|") as tar,
    ):
        tar.extractall(folder, filter="tar")
