"""`Lock`: `torana.lock`, the frontends that a project takes from a package index, wheel by wheel.

The file is JSON. Keys that are not about frontends are somebody else's, and kept.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torana.core.errors import NotFoundError, UserError
from torana.plugins.rules import normal

_KEY: Final = "frontends"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class InvalidLockError(UserError):
    """A `torana.lock` is wrong; the text names the file."""

    code = "LOCK_INVALID"


@dataclass(frozen=True, slots=True, order=True)
class Wheel:
    """One wheel: `filename` is for people, the hash is what counts."""

    name: str
    version: str
    sha256: str
    filename: str


@dataclass(frozen=True, slots=True)
class LockedFrontend:
    """A distribution with a frontend, and all wheels of its environment but Torana's own."""

    distribution: str
    version: str
    wheels: tuple[Wheel, ...]

    @property
    def syntax(self) -> str:
        return f"pypi:{self.distribution}=={self.version}"

    @property
    def id(self) -> str:
        """Name the environment: the same wheels share one."""
        text = "\n".join(sorted(wheel.sha256 for wheel in self.wheels))
        return f"{normal(self.distribution)}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def requirements(self) -> str:
        """Give the text of a requirements file with hashes."""
        lines = (f"{w.name}=={w.version} --hash=sha256:{w.sha256}\n" for w in self.wheels)
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Lock:
    """The frontends of a lock file, by distribution and version."""

    path: Path
    frontends: tuple[LockedFrontend, ...] = ()
    others: Mapping[str, Any] = field(default_factory=dict)

    def find(self, distribution: str, version: str) -> LockedFrontend:
        """Give an entry.

        Raises:
            NotFoundError: there is none.
        """
        for each in self.frontends:
            if normal(each.distribution) == normal(distribution) and each.version == version:
                return each
        raise NotFoundError(
            f"not in {self.path.name}: `pypi:{distribution}=={version}`",
            hint=f"`torana frontend lock pypi:{distribution}=={version}` adds it",
        )

    def with_frontends(self, added: Iterable[LockedFrontend]) -> Lock:
        """Give the same with entries added or replaced."""
        by_syntax = {each.syntax: each for each in (*self.frontends, *added)}
        found = tuple(by_syntax[key] for key in sorted(by_syntax))
        return Lock(self.path, found, self.others)

    def write(self) -> None:
        """Replace the file.

        Raises:
            OSError: it cannot be written.
        """
        entries = [
            {
                "distribution": each.distribution,
                "version": each.version,
                "wheels": [
                    {
                        "name": wheel.name,
                        "version": wheel.version,
                        "sha256": wheel.sha256,
                        "filename": wheel.filename,
                    }
                    for wheel in each.wheels
                ],
            }
            for each in self.frontends
        ]
        text = json.dumps({**self.others, _KEY: entries}, indent=2) + "\n"
        draft = self.path.with_name(f".{self.path.name}.new")
        draft.write_text(text)
        draft.replace(self.path)


def read_lock(path: Path) -> Lock:
    """Read a lock file; one that does not exist is empty.

    Raises:
        InvalidLockError: it is malformed.
    """
    try:
        document = json.loads(path.read_text())
        entries = tuple(_entry(each) for each in document.get(_KEY, ()))
    except FileNotFoundError:
        return Lock(path)
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidLockError(f"{path}: cannot be read: {err}") from err
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        what = f"there is no {err}" if isinstance(err, KeyError) else str(err)
        raise InvalidLockError(
            f"{path}: malformed: {what}",
            hint="it is written by `torana frontend lock`; an older one is in version control",
        ) from None
    return Lock(path, entries, {key: value for key, value in document.items() if key != _KEY})


def _entry(raw: Mapping[str, Any]) -> LockedFrontend:
    wheels = tuple(
        Wheel(str(w["name"]), str(w["version"]), str(w["sha256"]), str(w.get("filename", "")))
        for w in raw["wheels"]
    )
    for wheel in wheels:
        if not _SHA256.fullmatch(wheel.sha256):
            raise ValueError(f"no sha256 for {wheel.name}: `{wheel.sha256}`")
    return LockedFrontend(str(raw["distribution"]), str(raw["version"]), wheels)
