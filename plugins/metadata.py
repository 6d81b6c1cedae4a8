"""Metadata of installed distributions: the files of `.dist-info` folders, as they are.

What `importlib.metadata` does, for the few things that finding plugins needs: importing it would
take longer than all the rest of `torana frontend list`. It still serves distributions that lie in
no folder (zip files, finders of others).

Spec: Recording installed projects; Entry points specification (packaging.python.org).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Any, Final, Protocol

_SUFFIXES: Final = (".dist-info", ".egg-info")
_EGG: Final = ".egg"


class MetadataFiles(Protocol):
    """The files that an installer left beside a distribution."""

    @property
    def label(self) -> str:
        """Name it as far as that is known without its metadata, `name-version`."""
        ...

    def read_text(self, name: str) -> str | None:
        """Read a file; None if there is none.

        Raises:
            OSError: it cannot be read.
            UnicodeDecodeError: it is not UTF-8.
        """
        ...

    def locate(self, path: str) -> str:
        """Give the place of one of its installed files, named as in `RECORD`."""
        ...


class MetadataFolder:
    """The metadata in one folder."""

    __slots__ = ("folder",)

    def __init__(self, folder: str) -> None:
        self.folder = folder

    @property
    def label(self) -> str:
        return os.path.splitext(os.path.basename(self.folder))[0]

    def read_text(self, name: str) -> str | None:
        try:
            with open(os.path.join(self.folder, name), encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def locate(self, path: str) -> str:
        return os.path.join(os.path.dirname(self.folder), path)


class _Foreign:
    """A distribution that only `importlib.metadata` knows how to read."""

    __slots__ = ("_source",)

    def __init__(self, source: Any) -> None:
        self._source = source

    @property
    def label(self) -> str:
        name = os.path.basename(str(getattr(self._source, "_path", "")))
        return os.path.splitext(name)[0]

    def read_text(self, name: str) -> str | None:
        text = self._source.read_text(name)
        return text if isinstance(text, str) else None

    def locate(self, path: str) -> str:
        return str(self._source.locate_file(path))


def installed_metadata() -> Iterator[MetadataFiles]:
    """Give the metadata of all distributions on `sys.path`, in the order of imports."""
    for finder in sys.meta_path:
        if not hasattr(finder, "find_distributions"):
            continue
        if finder is PathFinder:
            for place in dict.fromkeys(sys.path):
                yield from _in_place(place or os.curdir)
        else:
            yield from _foreign(finder)


def entry_points(text: str) -> Iterator[tuple[str, str, str]]:
    """Read the text of an `entry_points.txt`; gives group, name and target of each entry.

    Raises:
        ValueError: a line is neither a group, an entry nor a comment.
    """
    group = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            group = line[1:-1].strip()
            continue
        name, equals, target = line.partition("=")
        if not (group and equals and name.strip() and target.strip()):
            raise ValueError(f"line {number}: `{line[:60]}`")
        yield group, name.strip(), target.strip()


def _in_place(place: str) -> Iterator[MetadataFiles]:
    try:
        names = os.listdir(place)
    except NotADirectoryError:
        from importlib.metadata import DistributionFinder

        context = DistributionFinder.Context(path=[place])
        yield from map(_Foreign, PathFinder.find_distributions(context))
        return
    except OSError:
        return
    if place.endswith(_EGG) and "EGG-INFO" in names:
        yield MetadataFolder(os.path.join(place, "EGG-INFO"))
    for name in sorted(names):
        if name.endswith(_SUFFIXES):
            yield MetadataFolder(os.path.join(place, name))


def _foreign(finder: Any) -> Iterator[MetadataFiles]:
    from importlib.metadata import DistributionFinder

    try:
        yield from map(_Foreign, finder.find_distributions(DistributionFinder.Context()))
    except Exception:  # a finder of somebody else's is no reason to find nothing
        return
