"""Which installed distributions a frontend needs, and their files, copied into one folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

from torana.core.errors import NotFoundError, UserError
from torana.core.records import dataclass

# Of Torana's own requirements these serve engines and command lines, never a frontend.
_UNUSED: Final = frozenset({"click", "isal", "rich", "urllib3", "zstandard"})
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.pyc", "*.pyi", "*.so.debug")


class NotPackableError(UserError):
    """Files of a distribution cannot be found."""

    code = "DISTRIBUTION_NOT_PACKABLE"


@dataclass(frozen=True, slots=True)
class Packed:
    """A distribution that went into the image."""

    name: str
    version: str


def closure(
    names: Iterable[str], *, unused: Collection[str] = _UNUSED
) -> list[metadata.Distribution]:
    """Give the distributions called `names` and all they require, sorted by name.

    Of Torana's requirements those that are `unused` are left out.

    Raises:
        NotFoundError: one is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    pending = [(name, "") for name in names]
    while pending:
        name, wanted_by = pending.pop()
        key = _normal(name)
        if key in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            reason = f", which {wanted_by} requires" if wanted_by else ""
            raise NotFoundError(
                f"distribution is not installed: `{name}`{reason}", hint="install it with pip"
            ) from None
        found[key] = distribution
        own = _normal(distribution.metadata["Name"])
        pending += [
            (required, own)
            for required in _requirements(distribution)
            if not (own == "torana" and _normal(required) in unused)
        ]
    return [found[key] for key in sorted(found)]


def pack(distributions: Iterable[metadata.Distribution], target: Path) -> list[Packed]:
    """Copy the files of distributions into `target`, which becomes a folder for `PYTHONPATH`.

    Raises:
        NotPackableError: one has no files that can be found.
    """
    packed = []
    for distribution in distributions:
        name = distribution.metadata["Name"]
        if _is_editable(distribution):
            _pack_editable(distribution, target)
        else:
            _pack_installed(distribution, target)
        packed.append(Packed(name, distribution.version))
    return packed


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: metadata.Distribution) -> Iterator[str]:
    """Give the names of what is required here, without extras."""
    for text in distribution.requires or ():
        requirement, _, marker = text.partition(";")
        match = _NAME.match(requirement.strip())
        if match is None or "extra" in marker:
            continue
        if marker.strip() and not _holds(marker.strip()):
            continue
        yield match[0]


def _holds(marker: str) -> bool:
    """Evaluate an environment marker; without the library for it, by whether it is installed."""
    try:
        from packaging.markers import Marker
    except ImportError:
        return True
    return Marker(marker).evaluate({"extra": ""})


def _is_editable(distribution: metadata.Distribution) -> bool:
    text = distribution.read_text("direct_url.json")
    return text is not None and '"editable": true' in text


def _pack_installed(distribution: metadata.Distribution, target: Path) -> None:
    files = [file for file in distribution.files or () if ".." not in file.parts]
    if not files:
        raise NotPackableError(f"distribution lists no files: `{distribution.metadata['Name']}`")
    for file in files:
        if "__pycache__" in file.parts or file.suffix in (".pyc", ".pyi"):
            continue
        source = Path(str(distribution.locate_file(file)))
        if not source.is_file():
            continue
        place = target.joinpath(*file.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def _pack_editable(distribution: metadata.Distribution, target: Path) -> None:
    """Copy the packages of a source tree, links followed, and what was said of them."""
    name = distribution.metadata["Name"]
    top = (distribution.read_text("top_level.txt") or name).split()
    for package in top:
        spec = util.find_spec(package)
        if spec is None:
            raise NotPackableError(f"package of `{name}` not found: `{package}`")
        if spec.submodule_search_locations:
            (source, *_) = spec.submodule_search_locations
            shutil.copytree(source, target / package, ignore=_IGNORED, dirs_exist_ok=True)
        elif spec.origin:
            shutil.copyfile(spec.origin, target / f"{package}.py")
    described = target / f"{_normal(name).replace('-', '_')}-{distribution.version}.dist-info"
    described.mkdir(parents=True, exist_ok=True)
    for part in ("METADATA", "entry_points.txt", "top_level.txt"):
        text = distribution.read_text(part)
        if text is not None:
            (described / part).write_text(text)
