"""Progress as messages and back: nothing is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import SourceRange
from torana.core.oci.digest import Digest
from torana.core.solver.progress import (
    LogEvent,
    ProgressEvent,
    StatusEvent,
    VertexEvent,
    WarningEvent,
)
from torana.core.solver.vertex import ProgressGroup
from torana.gateway.daemon.statusmessages import responses
from torana.gateway.engines.remote.statusevents import events

digests = st.integers(0, 99).map(lambda number: Digest.of_text(str(number)))
moments = st.integers(0, 2**31).map(lambda number: number / 4)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
vertices = st.builds(
    VertexEvent,
    digest=digests,
    name=texts,
    inputs=st.lists(digests, max_size=3).map(tuple),
    started=st.none() | moments,
    completed=st.none() | moments,
    cached=st.booleans(),
    error=texts,
    progress_group=st.none() | st.builds(ProgressGroup, texts, texts, st.booleans()),
)
statuses = st.builds(
    StatusEvent,
    id=texts,
    vertex=digests,
    name=texts,
    current=st.integers(0, 2**40),
    total=st.integers(0, 2**40),
    timestamp=moments,
    started=st.none() | moments,
    completed=st.none() | moments,
)
logs = st.builds(
    LogEvent,
    vertex=digests,
    stream=st.sampled_from([1, 2]),
    data=st.binary(min_size=1, max_size=50),
    timestamp=moments,
)
warnings = st.builds(
    WarningEvent,
    vertex=digests,
    short=texts,
    level=st.integers(1, 5),
    detail=st.lists(texts, max_size=2).map(tuple),
    url=texts,
    ranges=st.just((SourceRange.lines("Dockerfile", 3, 4),)),
    data=st.binary(max_size=20),
)


@given(st.lists(vertices), st.lists(statuses), st.lists(logs), st.lists(warnings))
def test_messages_carry_all_of_an_event(
    some: list[VertexEvent],
    more: list[StatusEvent],
    output: list[LogEvent],
    warned: list[WarningEvent],
) -> None:
    sent: list[ProgressEvent] = [*some, *more, *output, *warned]
    received = [event for response in responses(sent) for event in events(response)]
    assert received == sent
