"""Standard output while a frontend runs: it is the engine's, so what is printed there goes astray.

In a process of its own it would break the gateway, in ours the file that a user pipes away. So it
goes to standard error, and `Printed` remembers who wrote it first.
"""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final, TextIO

from torana.plugins.loading import place_in

_SHOWN: Final = 60  # characters


class Printed:
    """What was written first: its place as ` at FILE:LINE`, and the beginning of its text."""

    def __init__(self) -> None:
        self.place = ""
        self.text = ""
        self.is_any = False

    def note(self, text: str) -> None:
        if not self.is_any and text:
            frames = traceback.extract_stack()
            self.place = place_in([frame for frame in frames if frame.filename != __file__])
            self.text = text.strip().partition("\n")[0][:_SHOWN]
            self.is_any = True  # last: another thread may look


@contextlib.contextmanager
def noting(*, is_process: bool) -> Iterator[Printed]:
    """Send what is written to `sys.stdout` to `sys.stderr`, and note it.

    With `is_process` that is all of this process, else the current task and what it starts.
    """
    printed = Printed()
    _stdout.install()
    before, token = _stdout.of_process, None
    if is_process:
        _stdout.of_process = printed
    else:
        token = _of_task.set(printed)
    try:
        yield printed
    finally:
        if token is None:
            _stdout.of_process = before
        else:
            _of_task.reset(token)
        _stdout.remove()


_of_task: ContextVar[Printed | None] = ContextVar("printed", default=None)


class _Stdout(io.TextIOBase):
    """Stands in for `sys.stdout`: whoever is not noted writes to the real one.

    There is one, because modules keep it (as handlers of logs do) from one build to the next.
    """

    def __init__(self) -> None:
        self.of_process: Printed | None = None
        self._outer: TextIO = sys.stdout
        self._count = 0

    def install(self) -> None:
        if not self._count:
            self._outer, sys.stdout = sys.stdout, self
        self._count += 1

    def remove(self) -> None:
        self._count -= 1
        if not self._count and sys.stdout is self:
            sys.stdout = self._outer

    def target(self) -> TextIO:
        return self._outer if self.printed() is None else sys.stderr

    def printed(self) -> Printed | None:
        return _of_task.get() or self.of_process

    def write(self, text: str) -> int:
        printed = self.printed()
        if printed is not None:
            printed.note(text)
        return self.target().write(text)

    def flush(self) -> None:
        self.target().flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.target().isatty()

    def fileno(self) -> int:
        return self.target().fileno()

    @property
    def buffer(self) -> Any:
        return _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self.target().encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # read-only here
        return self.target().errors


class _Bytes(io.RawIOBase):
    """The same for bytes."""

    def __init__(self, text: _Stdout) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        printed = self._text.printed()
        if printed is not None:
            printed.note(bytes(data).decode("utf-8", "replace"))
        target = self._text.target()
        target.flush()
        written = target.buffer.write(data)
        target.flush()
        return written


_stdout = _Stdout()
