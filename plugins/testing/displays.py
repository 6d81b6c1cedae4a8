"""`DisplaySuite`: what every progress display must do."""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.errors import Position, SourceRange
from torana.core.oci.digest import Digest
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)
from torana.plugins.displays import OpenDisplay

_ONE, _OTHER = Digest.of_text("one"), Digest.of_text("other")
_RANGE = SourceRange("Dockerfile", Position(1), Position(1))

# A build with everything in it: waiting, output, counters, a failure, a late and a lost event.
EVENTS: Sequence[ProgressEvent] = (
    VertexEvent(digest=_ONE, name="[1/2] RUN one"),
    VertexEvent(digest=_OTHER, name="[2/2] RUN two", inputs=(_ONE,)),
    VertexEvent(digest=_ONE, name="[1/2] RUN one", started=1.0),
    LogEvent(vertex=_ONE, stream=1, data=b"half a line", timestamp=1.1),
    LogEvent(vertex=_ONE, stream=2, data=b"\xff\x1b[31m and its end\n", timestamp=1.2),
    StatusEvent(id="layer", vertex=_ONE, name="fetch", current=1, total=0, timestamp=1.3),
    StatusEvent(id="layer", vertex=_ONE, current=5, total=5, timestamp=1.4, completed=1.4),
    WarningEvent(vertex=_ONE, short="odd", detail=("why",), ranges=(_RANGE,), data=b"RUN one\n"),
    WarningEvent(vertex=None, short="of the whole build"),
    VertexEvent(digest=_ONE, name="[1/2] RUN one", started=1.0, completed=2.0),
    LogEvent(vertex=Digest.of_text("never announced"), stream=1, data=b"x\n", timestamp=2.0),
    VertexEvent(digest=_OTHER, name="[2/2] RUN two", started=2.0, completed=3.0, error="no luck"),
    VertexEvent(digest=_ONE, name="[1/2] RUN one", started=1.0, completed=2.0, cached=True),
)


class DisplaySuite:
    """Subclasses have the fixture `open_display`."""

    def test_takes_any_build(self, open_display: OpenDisplay) -> None:
        display = open_display(lambda text: None)
        for event in EVENTS:
            display.emit(event)
        display.close()

    def test_closes_at_any_time(self, open_display: OpenDisplay) -> None:
        for count in range(len(EVENTS)):
            display = open_display(lambda text: None)
            for event in EVENTS[:count]:
                display.emit(event)
            display.close()
            display.close()

    def test_writes_text_and_nothing_after_it_is_closed(self, open_display: OpenDisplay) -> None:
        written: list[str] = []
        display = open_display(written.append)
        for event in EVENTS:
            display.emit(event)
        display.close()
        count = len(written)
        assert all(isinstance(text, str) for text in written)
        display.close()
        assert len(written) == count
