"""Failures of ops. Numbers: the solver reference, section 15."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.solver.fakes import FakeResult, Gate, World, vertex

from torana.core.errors import (
    Position,
    SourceExcerpt,
    SourceRange,
    UserError,
)
from torana.core.solver.failure import SolveError

# Errors


async def test_scenario_26(world: World) -> None:
    async def fail() -> None:
        raise UserError("no map")

    with pytest.raises(SolveError, match="no map"):
        await world.build(vertex("top", None, vertex("a", before_map=fail)))
    assert world.execs.total() == 0


async def test_scenario_27(world: World) -> None:
    async def fail() -> None:
        error = UserError("exit code 3", hint="look closer")
        error.log_tail = [b"oops"]  # type: ignore[attr-defined]
        raise error

    span = SourceRange("Dockerfile", Position(1), Position(1))
    sources = (SourceExcerpt("Dockerfile", b"RUN false", (span,)),)
    bad = vertex("a", before_exec=fail, sources=sources)
    job = world.job()
    errors = []
    for top in (bad, vertex("top", None, bad), vertex("top2", None, bad)):
        with pytest.raises(SolveError) as caught:
            await world.build(top, job)
        errors.append(caught.value)
    assert errors[0] is errors[1] is errors[2]
    error = errors[0]
    assert (str(error), error.hint, error.vertex) == ("exit code 3", "look closer", bad)
    assert error.sources == sources
    assert error.log_tail == [b"oops"]
    assert isinstance(error.__cause__, UserError)
    assert world.execs == {"a": 1}


async def test_unexpected_exception_surfaces_as_itself(world: World) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("bug")

    with pytest.raises(ZeroDivisionError, match="bug"):
        await world.build(vertex("top", None, vertex("a", before_exec=fail)))


async def test_scenario_29(world: World) -> None:
    gate = Gate()

    async def fail() -> None:
        await gate.reached.wait()
        raise UserError("broken")

    top = vertex("top", None, vertex("a", before_exec=gate), vertex("b", before_exec=fail))
    with pytest.raises(SolveError, match="broken"):
        await world.build(top)
    assert gate.cancelled == 1


async def test_scenario_22_gives_the_input_along(world: World) -> None:
    def fail(value: Any) -> Any:
        raise UserError("cannot read it")

    top = vertex("top", None, vertex("a", value=5), contents=(0,), content=fail)
    for release_first in (True, False):
        job = world.job()
        with pytest.raises(SolveError, match="cannot read it") as caught:
            await world.build(top, job)
        failed = caught.value.input
        assert failed is not None
        assert failed.position == 0
        assert isinstance(failed.result, FakeResult)
        assert failed.result.value == 5
        if release_first:
            await failed.release()
        await job.discard()
        await failed.release()
        assert failed.result is None
