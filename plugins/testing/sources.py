"""`SourceSuite`: what every source must do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from torana.core.errors import ToranaError
from torana.core.ops.source import (
    Source,
    SourceInstance,
    SourceKey,
    SourceRequest,
    SourceServices,
)
from torana.core.worker import Worker

_MOST_KEYS = 16


class QuietSourceProgress:
    """Takes what a source reports."""

    def log(self, stream: int, data: bytes) -> None:
        """Show nothing."""

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Show nothing."""


class SourceSuite:
    """Subclasses have the fixtures `source`, `wanted` (a request that can be served, more than
    once, with the same content), and `malformed` (one with an attribute or an identifier that
    cannot be understood).
    """

    @pytest.fixture
    def new_build(self, tmp_path: Path) -> Iterator[Callable[[], SourceServices]]:
        """What a worker lends to one more build, on one store."""
        worker = Worker(tmp_path / "store", snapshotter="native")

        def services() -> SourceServices:
            return worker.source_services(QuietSourceProgress(), {}, None, None)

        yield services
        worker.close()

    def test_serves_its_schemes(self, source: Source, wanted: SourceRequest) -> None:
        assert wanted.scheme in source.schemes

    def test_opening_does_nothing(
        self, source: Source, wanted: SourceRequest, new_build: Callable[[], SourceServices]
    ) -> None:
        nowhere = replace(wanted, attrs={**wanted.attrs, "no.such.attribute": "x"})
        services = new_build()
        before = sorted(services.root.rglob("*"))
        source.open(nowhere, services)
        assert sorted(services.root.rglob("*")) == before

    def test_refuses_what_is_malformed(
        self, source: Source, malformed: SourceRequest, new_build: Callable[[], SourceServices]
    ) -> None:
        with pytest.raises(ToranaError):
            source.open(malformed, new_build())

    def test_keys_come_to_an_end_and_stay(
        self, source: Source, wanted: SourceRequest, new_build: Callable[[], SourceServices]
    ) -> None:
        async def twice() -> tuple[list[SourceKey], list[SourceKey]]:
            instance = source.open(wanted, new_build())
            return await keys(instance), await keys(instance)

        first, second = asyncio.run(twice())
        assert first == second
        assert all(found.key for found in first)

    def test_builds_agree_on_keys(
        self, source: Source, wanted: SourceRequest, new_build: Callable[[], SourceServices]
    ) -> None:
        async def of_two_builds() -> list[list[SourceKey]]:
            return [await keys(source.open(wanted, new_build())) for _ in range(2)]

        first, second = asyncio.run(of_two_builds())
        stable = [key for key in first if not key.key.startswith("session:")]
        assert stable == [key for key in second if not key.key.startswith("session:")]

    def test_snapshot_may_be_asked_for_again(
        self, source: Source, wanted: SourceRequest, new_build: Callable[[], SourceServices]
    ) -> None:
        async def twice() -> None:
            instance = source.open(wanted, new_build())
            await keys(instance)
            for _ in range(2):
                tree = await instance.snapshot()
                if tree is not None:
                    await tree.release()

        asyncio.run(twice())


async def keys(instance: SourceInstance) -> list[SourceKey]:
    """Give all keys of an instance, the last one last."""
    found: list[SourceKey] = []
    while not found or not found[-1].is_last:
        assert len(found) < _MOST_KEYS, "keys never end"
        found.append(await instance.cache_key(len(found)))
    return found
