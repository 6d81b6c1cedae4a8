"""Failures as text: the excerpt of the build file, the message, the last output, a hint."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from torana.core.errors import BuildFileError, SourceExcerpt, ToranaError

_CONTEXT_LINES = 2
_LOG_LINES = 20
_NO_SPACE = "make room; `torana prune` removes build cache"
_ANY_EXIT_CODE = "the step's own program failed; its output is above"
_EXIT_CODES = {
    126: "the command was found but cannot be executed: check its mode and its interpreter",
    127: "the command was not found in the image: check PATH, or install it in an earlier step",
    137: "the step was killed (SIGKILL), often for want of memory",
    139: "the step's program crashed (SIGSEGV)",
    143: "the step was asked to end (SIGTERM)",
}


def told(error: Exception) -> str:
    """Give the whole story of any failure, to be shown on standard error."""
    if isinstance(error, ToranaError):
        return describe(error)
    return describe_os_error(error) if isinstance(error, OSError) else describe_bug(error)


def describe(error: ToranaError) -> str:
    """Give the whole story of an expected failure, to be shown on standard error."""
    parts: list[str] = []
    log = _log(error)
    if log:
        parts.append("\n".join(["------", *_last_lines(log), "------"]))
    parts += [excerpt(source) for source in error.sources if source.ranges]
    place = ""
    if isinstance(error, BuildFileError) and error.at is not None and not error.sources:
        place = f"{error.at}: "
    parts.append(f"ERROR: {place}{error.message}")
    hint = _hint(error)
    if hint:
        parts.append(f"hint: {hint}")
    return "\n".join(parts)


def describe_os_error(error: OSError) -> str:
    """Tell of a failing file or device."""
    name = error.filename
    where = f": `{os.fsdecode(name)}`" if isinstance(name, str | bytes) else ""
    text = f"ERROR: {(error.strerror or str(error)).lower()}{where}"
    if error.errno == errno.ENOSPC:
        text += f"\nhint: {_NO_SPACE}"
    elif error.errno in (errno.EACCES, errno.EPERM):
        text += "\nhint: TORANA_ROOT names another folder for Torana's data"
    return text


def describe_bug(error: BaseException) -> str:
    """Tell of an error that is nobody's fault but ours, without its traceback."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return (
        f"ERROR: internal error{at}: {type(error).__name__}: {error}\n"
        "hint: this is a bug in Torana or a plugin; `torana --debug ...` shows the traceback"
    )


def excerpt(source: SourceExcerpt) -> str:
    """Give the lines around the ranges of `source`, the lines themselves marked by `>>>`."""
    return "\n".join(_excerpt(source))


def _excerpt(source: SourceExcerpt) -> Iterator[str]:
    lines = source.data.decode("utf-8", "replace").split("\n")
    marked = {
        number
        for r in source.ranges
        for number in range(r.start.line, max(r.start.line, r.end.line) + 1)
        if 1 <= number <= len(lines)
    }
    if not marked:
        return
    first, last = min(marked), max(marked)
    start = max(1, first - _CONTEXT_LINES)
    end = min(len(lines), last + _CONTEXT_LINES)
    if end == len(lines) and not lines[-1] and end > last:
        end -= 1
    yield f"{source.filename}:{first}"
    yield "--------------------"
    for number in range(start, end + 1):
        mark = ">>>" if number in marked else "   "
        yield f"{number:4d} | {mark} {lines[number - 1]}".rstrip()
        yield from _carets(source, number, lines[number - 1])
    yield "--------------------"


def _carets(source: SourceExcerpt, number: int, line: str) -> Iterator[str]:
    """Point at what a range in one line is about, where its columns are known."""
    for r in source.ranges:
        if r.start.line == r.end.line == number and 0 < r.start.column <= len(line) + 1:
            indent = "".join("\t" if char == "\t" else " " for char in line[: r.start.column - 1])
            width = max(1, min(r.end.column, len(line) + 1) - r.start.column)
            yield f"     |     {indent}{'^' * width}"
            return


def _last_lines(log: bytes) -> list[str]:
    text = log.decode("utf-8", "backslashreplace").rstrip("\n")
    return text.split("\n")[-_LOG_LINES:]


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _log(error: BaseException) -> bytes:
    """Give the last output of the step that failed."""
    logs = (getattr(part, "log", None) for part in _chain(error))
    return next((log for log in logs if isinstance(log, bytes)), b"")


def _hint(error: BaseException) -> str | None:
    """Give the first hint along the chain of causes, else what an exit code tells."""
    for part in _chain(error):
        hint = getattr(part, "hint", None)
        if hint:
            return str(hint)
    if any("no space left on device" in str(part).lower() for part in _chain(error)):
        return _NO_SPACE
    code = next((e.exit_code for e in _chain(error) if hasattr(e, "exit_code")), None)
    return None if code is None else _EXIT_CODES.get(code, _ANY_EXIT_CODE)
