"""`Project`: what a project's `torana.toml` says; the same for everyone who builds it.

It can choose among frontends and forbid some. It cannot consent to code that nobody installed: that
would be the file vouching for its neighbours.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.records import dataclass

FILENAME: Final = "torana.toml"
LOCK_FILENAME: Final = "torana.lock"
_ROOT_MARKS: Final = (".git", ".hg")


class InvalidProjectError(UserError):
    """A `torana.toml` is wrong; the text names the file and the key."""

    code = "PROJECT_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder and what its `torana.toml` says; without such a file, nothing.

    `files` are patterns of paths below `root` with the syntax that reads them; the first one that
    matches counts. `allowed` are the frontends that may be used, None for any. `policies` are names
    of policies that judge what builds fetch, with their settings.
    """

    root: Path
    file: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    allowed: tuple[str, ...] | None = None
    policies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def syntax_of(self, build_file: Path) -> str | None:
        """Give the syntax that the project reads `build_file` with, if it says so."""
        try:
            relative = build_file.absolute().relative_to(self.root)
        except ValueError:
            return None
        for pattern, syntax in self.files.items():
            if "/" in pattern:
                if fnmatch.fnmatchcase(str(relative), pattern.removeprefix("./")):
                    return syntax
            elif fnmatch.fnmatchcase(relative.name, pattern):
                return syntax
        return None


def find_project(folder: Path) -> Project:
    """Look for `torana.toml` in `folder` and above it, up to the root of the repository.

    Raises:
        InvalidProjectError: the file is no TOML, or has wrong keys or values.
    """
    for candidate in candidates(folder):
        if (candidate / FILENAME).is_file():
            return read_project(candidate / FILENAME)
    return Project(root=folder.absolute())


def candidates(folder: Path) -> Iterator[Path]:
    """Give the folders where a `torana.toml` would count for `folder`, the nearest first."""
    start = folder.absolute()
    for candidate in (start, *start.parents):
        yield candidate
        if any((candidate / mark).exists() for mark in _ROOT_MARKS):
            return


def read_project(file: Path) -> Project:
    """Read one `torana.toml`; the schema is `torana.schema.json`.

    Raises:
        InvalidProjectError: it cannot be read, is no TOML, or has wrong keys or values.
    """
    import tomllib

    from torana.plugins.schemas import first_problem, load_schema

    try:
        document = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidProjectError(f"{file}: cannot be read: {err}") from err
    except tomllib.TOMLDecodeError as err:
        raise InvalidProjectError(f"{file}: no TOML: {err}") from None
    problem = first_problem(document, load_schema("torana.plugins", "torana.schema.json"))
    if problem is not None:
        message, hint = problem
        raise InvalidProjectError(f"{file}: {message}", hint=hint)
    frontends = document.get("frontends", {})
    allowed = frontends.get("allowed")
    return Project(
        root=file.parent,
        file=file,
        files=frontends.get("files", {}),
        allowed=None if allowed is None else tuple(allowed),
        policies=document.get("policies", {}),
    )
