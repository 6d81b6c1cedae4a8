"""`Tree`: a parsed build file, in which everything knows its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import field
from typing import Final

from torana.core.errors import BuildFileError, SourceRange, ToranaError
from torana.core.llb.definition import SourceInfo
from torana.core.llb.places import current_location, located_at, set_location
from torana.core.llb.vertices import SourceLocation
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile, attach


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a build file; `within` is where that file was included."""

    file: SourceFile
    info: SourceInfo  # one object per file: it is what definitions carry
    range: SourceRange
    within: Place | None = None

    def stack(self) -> Iterator[Place]:
        """Give this place and those that included its file, innermost first."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.within

    def location(self) -> tuple[SourceLocation, ...]:
        """Give what ops carry."""
        return tuple(SourceLocation(place.info, (place.range,)) for place in self.stack())

    def error(self, message: str, *, hint: str | None = None) -> BuildFileError:
        """Give an error about this place, to be raised."""
        err = BuildFileError(message, hint=hint)
        self.attach(err)
        return err

    def attach(self, err: ToranaError) -> None:
        """Say of an error that it is about this place, unless it has a place."""
        if not err.sources:
            for place in self.stack():
                attach(err, place.file, (place.range,))

    @contextmanager
    def located(self) -> Iterator[None]:
        """Have ops made and errors raised while entered be about this place."""
        before = _LATEST.get()
        _LATEST.set(self)
        with located_at(self.location()):
            try:
                yield
            except ToranaError as err:
                self.attach(err)
                raise
        _LATEST.set(before)


_LATEST: Final[ContextVar[Place | None]] = ContextVar("torana.place", default=None)


def latest_place() -> Place | None:
    """Give the place that was worked on last in this task."""
    return _LATEST.get()


@contextmanager
def on_behalf_of(at: Place) -> Iterator[None]:
    """Have errors of another file that is built while entered be about `at`, too, at last."""
    token = _LATEST.set(None)
    try:
        yield
    except ToranaError as err:
        for place in at.stack():
            attach(err, place.file, (place.range,))
        raise
    finally:
        _LATEST.reset(token)


@dataclass(frozen=True, slots=True)
class Tree:
    """What a rule of the grammar matched, or a single token (which has no children).

    Iterating gives the children; while the body of the loop works on one, ops that it makes and
    errors that it raises are about that one's place.

    Iterating is told apart from an error only by what comes after it: an error that leaves the loop
    closes the iterator first. So the place of errors is kept apart from that of ops.
    """

    name: str  # of the rule or terminal
    text: str  # as it stands in the file
    place: Place
    children: Sequence[Tree] = field(default=(), repr=False)

    def __iter__(self) -> Iterator[Tree]:
        before = current_location()
        for child in self.children:
            set_location(child.place.location())
            _LATEST.set(child.place)
            try:
                yield child
            finally:
                set_location(before)
        _LATEST.set(self.place)

    def located(self) -> AbstractContextManager[None]:
        """Have ops made and errors raised while entered be about this place."""
        return self.place.located()

    def find(self, name: str) -> Tree | None:
        """Give the first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> Sequence[Tree]:
        """Give the children of that name."""
        return [child for child in self.children if child.name == name]

    def __getitem__(self, name: str) -> Tree:
        """Give the child of that name, which the grammar promises."""
        found = self.find(name)
        if found is None:
            raise KeyError(f"`{self.name}` has no `{name}` here: {self.place.range}")
        return found

    def texts(self, name: str) -> list[str]:
        """Give the texts of the children of that name."""
        return [child.text for child in self.all(name)]

    @property
    def string(self) -> str:
        """The text without the quotes around it, if it has such; double ones escape as in JSON.

        Raises:
            BuildFileError: an escape makes no sense.
        """
        if self.text[:1] == "'" and self.text.endswith("'"):
            return self.text[1:-1]
        if self.text[:1] != '"':
            return self.text
        try:
            return str(json.loads(self.text))
        except ValueError as err:
            raise self.error(f"not a string: {self.text}") from err

    def error(self, message: str, *, hint: str | None = None) -> BuildFileError:
        """Give an error about this place, to be raised."""
        return self.place.error(message, hint=hint)
