"""The golden cases with the frontend at the other end of a connection: the same bytes come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from tests.golden.llb.golden import Case, Observed, cases
from tests.golden.llb.stub_client import StubClient

from torana.core.errors import ToranaError
from torana.frontends.dockerfile import DockerfileFrontend
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.service import hosted
from torana.gateway.client.client import Client, Result
from torana.gateway.client.remote import RemoteClient
from torana.gateway.client.stdio import channel_over
from torana.gateway.runners.child import ChildFrontend

FOLDERS = cases()
_STEP = 9  # every case takes its 20 ms, and this is about the way, not about the frontend


class HostStub(StubClient):
    """A stub on whose behalf a frontend is run elsewhere."""

    logged = b""

    @property
    def gateway_caps(self) -> frozenset[str]:
        return super().gateway_caps | {"source.metaresolver"}

    @contextmanager
    def vertex(self, name: str) -> Iterator[Any]:
        def log(stream: int, data: bytes) -> None:
            self.logged += data

        yield log


class OverGRPC:
    """The Dockerfile frontend in this process, on a client over a socket."""

    async def build(self, client: Client) -> Result:
        bridge = Bridge(client)
        async with hosted(bridge) as connection:
            end = connection.detach()
            async with channel_over(end, end) as channel:
                remote = await RemoteClient.open(
                    channel, options=client.options, session_id=client.session_id
                )
                try:
                    await remote.finish(await DockerfileFrontend().build(remote))
                except ToranaError as err:
                    await remote.fail(err)
        return await bridge.returned()


def _stub(case: Case) -> HostStub:
    stub = case.client()
    return HostStub(**{name: getattr(stub, name) for name in StubClient.__dataclass_fields__})


def _bytes(observed: Observed) -> list[Any]:
    report = observed.report()
    report.pop("resolves")  # a client over gRPC may ask in another form
    return [report, [s.definition.ops for s in observed.client.solves if s.definition]]


@pytest.mark.parametrize("folder", [pytest.param(p, id=p.name) for p in FOLDERS[::_STEP]])
async def test_over_grpc(folder: Path) -> None:
    case = Case.load(folder)
    here = await Observed.of(_stub(case))
    there = await Observed.of(_stub(case), OverGRPC())
    assert _bytes(there) == _bytes(here)


@pytest.mark.parametrize("folder", [pytest.param(p, id=p.name) for p in FOLDERS[3::90]])
async def test_in_a_child(folder: Path) -> None:
    case = Case.load(folder)
    here = await Observed.of(_stub(case))
    stub = _stub(case)
    there = await Observed.of(stub, ChildFrontend("dockerfile"))
    assert _bytes(there) == _bytes(here), cast("Any", stub).logged
