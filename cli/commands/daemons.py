"""`torana debug info`, `histories`, `logs` and `workers` of a daemon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from torana.cli import progress
from torana.core.errors import NotFoundError

if TYPE_CHECKING:
    from torana.gateway.protocol.control_pb2 import BuildHistoryRecord

T = TypeVar("T")

_DEFAULT: Final = "unix:///run/torana/toranad.sock"


@asynccontextmanager
async def _channel(ctx: click.Context) -> AsyncIterator[Any]:
    """Connect to the daemon that `--addr` names, or to this machine's."""
    from torana.gateway.engines.remote.address import parse_address
    from torana.gateway.engines.remote.connection import connect

    shown = ctx.obj["addr"] or _DEFAULT
    address = parse_address(shown, docker_host=os.environ.get("DOCKER_HOST", ""))
    async with connect(address, shown) as connection:
        yield connection.channel


def _ask(ctx: click.Context, question: Callable[[Any, Any], Awaitable[T]]) -> T:
    """Ask a daemon; `question` gets the stubs of its Control and its Content service."""
    from torana.gateway.protocol.calls import remote_errors
    from torana.gateway.protocol.content_pb2_grpc import ContentStub
    from torana.gateway.protocol.control_pb2_grpc import ControlStub

    async def ask() -> T:
        async with _channel(ctx) as channel:
            with remote_errors():
                return await question(ControlStub(channel), ContentStub(channel))
        raise AssertionError("errors are raised")

    return asyncio.run(ask())


@click.command()
@click.pass_context
def info(ctx: click.Context) -> None:
    """Show the version of a daemon."""
    from torana.gateway.protocol.control_pb2 import InfoRequest

    async def question(stub: Any, content: Any) -> Any:
        return await stub.Info(InfoRequest())

    version = _ask(ctx, question).buildkitVersion
    parts = (version.package, version.version, version.revision)
    click.echo(f"BuildKit:\t{' '.join(part for part in parts if part)}")


def show_workers(ctx: click.Context) -> None:
    """Print the workers of a daemon."""
    from torana.core.oci.platform import Platform
    from torana.gateway.engines.facts import LABELS
    from torana.gateway.protocol.control_pb2 import ListWorkersRequest

    async def question(stub: Any, content: Any) -> Any:
        return await stub.ListWorkers(ListWorkersRequest())

    for worker in _ask(ctx, question).record:
        click.echo(f"ID:\t\t{worker.ID}")
        platforms = [
            Platform(os=p.OS, architecture=p.Architecture, variant=p.Variant).format()
            for p in worker.platforms
        ]
        click.echo(f"Platforms:\t{','.join(platforms)}")
        version = worker.BuildkitVersion
        click.echo(f"Version:\t{version.package} {version.version}")
        labels = dict(worker.Labels)
        show_facts({name: labels.pop(label) for name, label in LABELS.items() if label in labels})
        for key, value in sorted(labels.items()):
            click.echo(f"Label:\t\t{key}={value}")


def show_facts(found: Mapping[str, str]) -> None:
    """Print what steps run with: of this engine, or of a daemon of ours."""
    for name, text in found.items():
        first, *more = text.splitlines()
        click.echo(f"{name + ':':<8}\t{first}")
        for line in more:
            click.echo(f"\t\t{line}")


@click.command()
@click.option("-f", "--filter", "filters", multiple=True, metavar="FILTER")
@click.option("--limit", type=click.IntRange(0), default=0, help="Only the newest ones.")
@click.pass_context
def histories(ctx: click.Context, filters: tuple[str, ...], limit: int) -> None:
    """List the builds of a daemon, running ones first."""
    from torana.gateway.protocol import control_pb2 as pb

    request = pb.BuildHistoryRequest(EarlyExit=True, Filter=filters, Limit=limit)

    async def question(stub: Any, content: Any) -> list[Any]:
        return [event.record async for event in stub.ListenBuildHistory(request)]

    click.echo(f"{'REF':<27}{'STATUS':<11}{'CREATED':<22}{'DURATION':>9}  STEPS")
    for record in _ask(ctx, question):
        click.echo(_row(record))


@click.command()
@click.argument("ref")
@click.option("--progress", "mode", metavar="plain|rawjson|NAME", default="plain")
@click.option("--trace", "wants_trace", is_flag=True, help="Print the build's trace instead.")
@click.pass_context
def logs(ctx: click.Context, ref: str, mode: str, wants_trace: bool) -> None:
    """Show the progress of a build of a daemon, from its beginning."""
    if wants_trace:
        click.echo(_ask(ctx, lambda stub, content: _trace(stub, content, ref)), nl=False)
        return
    from torana.gateway.engines.remote.statusevents import events
    from torana.gateway.protocol.control_pb2 import StatusRequest

    display = progress.open_display(mode)

    async def question(stub: Any, content: Any) -> None:
        async for response in stub.Status(StatusRequest(Ref=ref)):
            for event in events(response):
                display.emit(event)

    try:
        _ask(ctx, question)
    finally:
        display.close()


async def _trace(stub: Any, content: Any, ref: str) -> bytes:
    from torana.gateway.protocol import content_pb2
    from torana.gateway.protocol import control_pb2 as pb

    call = stub.ListenBuildHistory(pb.BuildHistoryRequest(Ref=ref, EarlyExit=True))
    digests = [event.record.trace.digest async for event in call]
    if not digests or not digests[0]:
        raise NotFoundError(f"build has no trace: `{ref}`")
    pieces = content.Read(content_pb2.ReadContentRequest(digest=digests[0]))
    return b"".join([piece.data async for piece in pieces])


def _row(record: BuildHistoryRecord) -> str:
    status = "running"
    if record.HasField("CompletedAt"):
        status = "completed"
        if record.HasField("error"):
            status = "canceled" if record.error.code == 1 else "error"
    began = record.CreatedAt.seconds + record.CreatedAt.nanos / 1e9
    ended = record.CompletedAt.seconds + record.CompletedAt.nanos / 1e9
    duration = f"{ended - began:.1f}s" if ended else ""
    created = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%d %H:%M:%S")
    steps = f"{record.numCompletedSteps}/{record.numTotalSteps} ({record.numCachedSteps} cached)"
    mark = " pinned" if record.pinned else ""
    return f"{record.Ref:<27}{status:<11}{created:<22}{duration:>9}  {steps}{mark}"
