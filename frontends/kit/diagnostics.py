"""Build files as sources of errors: `SourceFile`, `located`, and excerpts for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

from torana.core.errors import BuildFileError, SourceExcerpt, SourceRange, ToranaError
from torana.core.llb.definition import Definition
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A build file as it was loaded; `definition` is the LLB that yields it."""

    filename: str
    data: bytes
    language: str = ""
    definition: Definition | None = None

    def lines(self, first: int, last: int | None = None) -> tuple[SourceRange, ...]:
        """Give one range per line, which is how the original marks an instruction."""
        return line_ranges(self.filename, first, last)

    def excerpt(self, ranges: Iterable[SourceRange]) -> SourceExcerpt:
        return SourceExcerpt(self.filename, self.data, tuple(ranges), self.language)


@lru_cache(maxsize=1024)
def line_ranges(filename: str, first: int, last: int | None = None) -> tuple[SourceRange, ...]:
    """Give one whole-line range for each of the lines `first` to `last`, both included."""
    end = first if last is None else last
    return tuple(SourceRange.lines(filename, line) for line in range(first, end + 1))


@contextmanager
def located(file: SourceFile, ranges: Sequence[SourceRange]) -> Iterator[None]:
    """Attach `ranges` to expected failures that pass; nested uses attach innermost first."""
    try:
        yield
    except ToranaError as err:
        attach(err, file, ranges)
        raise


def attach(err: ToranaError, file: SourceFile, ranges: Sequence[SourceRange]) -> None:
    """Add a location to `err`; the first one becomes the place in its text, if it has such."""
    if isinstance(err, BuildFileError) and err.at is None and ranges:
        err.at = ranges[0]
    err.sources = (*err.sources, file.excerpt(ranges))


def copied(err: ToranaError) -> ToranaError:
    """Give an equal error for another place: places are attached to the error itself."""
    copy = type(err).__new__(type(err), *err.args)
    copy.__dict__.update(err.__dict__)
    return copy


def render_excerpt(excerpt: SourceExcerpt) -> str:
    """Give the lines around the marked ones, as clients print them; empty without a usable range.

    Context: the more lines are marked, the fewer are shown around them.
    """
    lines = excerpt.data.decode("utf-8", "replace").split("\n")
    if not excerpt.ranges or not 1 <= excerpt.ranges[0].start.line <= len(lines):
        return ""
    marked = {line for span in excerpt.ranges for line in range(span.start.line, span.end.line + 1)}
    first, last = _with_context(min(marked), max(marked), len(lines))
    rule = "-" * 20
    rows = [
        f"{number:4d} | {'>>>' if number in marked else '   '} {lines[number - 1]}"
        for number in range(first, last + 1)
    ]
    head = f"{excerpt.filename}:{min(marked)}"
    return "\n".join((head, rule, *rows, rule)) + "\n"


def _with_context(first: int, last: int, total: int) -> tuple[int, int]:
    last = min(last, total)
    budget = 4 if first == last else 2
    used = 0
    while used < budget:
        if first > 1:
            first -= 1
            used += 1
        if last < total:
            last += 1
            used += 1
        used += 1
    return first, last
