"""Paths in Dockerfiles: always with forward slashes inside, whatever the target system is.

Only the text matters here: the machine that converts a file need not be of the target's kind.
"""

from __future__ import annotations

import posixpath

from torana.core.errors import BuildFileError

_WINDOWS = "windows"


def clean(path: str) -> str:
    """Resolve `.`, `..` and doubled slashes; the empty path is `.`."""
    cleaned = posixpath.normpath(path) if path else "."
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def base(path: str) -> str:
    """Give the last part of a path, whatever slashes follow it; `.` or `/` if there is none."""
    name = path.rstrip("/").rpartition("/")[2]
    return name or ("/" if path else ".")


def join(*parts: str) -> str:
    """Join and clean; an absolute later part does not start anew."""
    return clean("/".join(part for part in parts if part))


def rooted(path: str) -> str:
    """Give `path` as a clean absolute path that stays below the root."""
    return join("/", path)


def is_absolute(path: str, system: str) -> bool:
    if system == _WINDOWS:
        path = path.replace("\\", "/")
        drive, colon, rest = path.partition(":")
        path = rest if colon and len(drive) == 1 else path
    return path.startswith("/")


def work_dir(current: str, path: str, system: str) -> str:
    """Give the directory that `WORKDIR path` leads to from `current`.

    Raises:
        BuildFileError: a Windows path on another drive or machine.
    """
    try:
        return _normalize(current, path, system, keeps_slash=False)
    except BuildFileError as err:
        raise BuildFileError(
            f"normalizing workdir: normalizing working directory: {err.message}"
        ) from err


def stored_work_dir(path: str, system: str) -> str:
    """Give the form that the image config holds."""
    return path.replace("/", "\\") if system == _WINDOWS else path


def destination(current: str, path: str, system: str) -> str:
    """Give where `COPY ... path` writes; a final `/` or `/.` stays, since it means a directory."""
    if system == _WINDOWS:  # a name of one letter loses its slash here
        path = _without_drive(path, keeps_slash=True)
    found = _normalize(current, "./" if path in (".", "") else path, system, keeps_slash=True)
    cleaned = clean(found)
    if found.endswith("/") and not cleaned.endswith("/"):
        return cleaned + "/"
    return cleaned.rstrip("/") + "/." if found.endswith("/.") else cleaned


def source(path: str, system: str) -> str:
    """Give a source of COPY or ADD as a clean absolute path in the tree that it comes from."""
    if system == _WINDOWS:
        try:
            path = _without_drive(path, keeps_slash=False)
        except BuildFileError as err:
            raise BuildFileError(f"removing drive letter: {err.message}") from err
    return rooted(path)


def _normalize(current: str, path: str, system: str, *, keeps_slash: bool) -> str:
    base = current or "/"
    given = path
    if system == _WINDOWS:
        given = path.replace("\\", "/")
        base = _without_drive(base, keeps_slash=keeps_slash)
        path = _without_drive(given, keeps_slash=keeps_slash) if given else base
    base = base if base.startswith("/") else join("/", base)
    result = path or base
    if not result.startswith("/"):
        result = join(base, result)
    if not keeps_slash or path.startswith("/"):
        return result
    if given.endswith("/") and not result.endswith("/"):
        return result + "/"
    if given.endswith("/."):
        return result.rstrip("/") + "/."
    return result


def _without_drive(path: str, *, keeps_slash: bool) -> str:
    """Take the drive letter off a Windows path and clean the rest.

    Raises:
        BuildFileError: another drive than C, a drive alone, a path of another machine.
    """
    path = path.replace("\\", "/")
    if len(path) == 2 and path[1] == ":":
        raise BuildFileError(f'removing drive letter: No relative path specified in "{path}"')
    if path.startswith("//"):
        raise BuildFileError("removing drive letter: UNC paths are not supported")
    drive, colon, rest = path.partition(":")
    if colon:
        if drive.lower() != "c":
            raise BuildFileError(
                "removing drive letter: The specified path is not on the system drive (C:)"
            )
        path = rest  # `C:name` is relative, as on Windows
    ends_with_slash = path.endswith("/")
    cleaned = clean(path)
    if keeps_slash and ends_with_slash and len(cleaned) > 1:
        cleaned += "/"
    return cleaned
