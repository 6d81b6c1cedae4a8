"""What a Mockerfile says, whichever of its two forms it is written in."""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.records import dataclass
from torana.frontends.kit.tree import Place


@dataclass(frozen=True, slots=True)
class Text:
    """A text of the file, with its place."""

    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A line for apt's list of sources."""

    line: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key of a repository, by its address."""

    url: Text
    sha256: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packages:
    """Packages that apt installs, with one command."""

    names: Sequence[Text]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file to fetch: put at `dest`, or unpacked into it.

    `install` are commands that run where the file was fetched, not in the image.
    """

    url: Text
    dest: Text
    place: Place
    is_archive: bool
    sha256: Text | None = None
    install: Sequence[Text] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    command: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyIn:
    """Copy from the build context, or from another image of the file."""

    src: Text
    dest: Text
    origin: Text | None = None
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Env:
    name: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir:
    path: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What containers of the image run: a text for the shell, or words."""

    words: Sequence[str] | str
    place: Place


Step = Repository | Key | Packages | Download | Run | CopyIn | Env | Workdir | Command


@dataclass(frozen=True, slots=True, kw_only=True)
class MockImage:
    """An image: a base and what is done to it, in order."""

    name: str
    base: Text  # an image of a registry, or the name of another image of the file
    steps: Sequence[Step]
    place: Place
    has_packages: bool = False  # apt is made ready for repositories before the first step


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Something doubtful that was seen while reading; `rule` is the name of a lint rule."""

    rule: str
    message: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Mockerfile:
    """A whole file.

    With `is_original` its images have a fixed config and nothing of their base's, and the first is
    the default; otherwise bases pass on their config, and the last is the default.
    """

    images: Sequence[MockImage]
    is_original: bool
    remarks: Sequence[Remark] = ()

    def find(self, name: str) -> MockImage | None:
        return next((image for image in self.images if image.name == name), None)
