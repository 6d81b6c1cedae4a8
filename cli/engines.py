"""Which engine a command uses: the embedded one, or a daemon that `--addr` names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from torana.cli import memo
from torana.cli.frontends import plugin_manager
from torana.core.errors import UsageError

if TYPE_CHECKING:
    from torana.gateway.engines.engine import Engine
    from torana.gateway.engines.remote.address import TLS

F = TypeVar("F", bound=Callable[..., Any])
ADDRESS_VARIABLES = ("TORANA_HOST", "BUILDKIT_HOST")

_OPTIONS = (
    click.option(
        "--addr",
        metavar="ADDRESS",
        envvar=list(ADDRESS_VARIABLES),
        show_envvar=True,
        help="Build on a daemon: unix://, tcp://, ssh://, docker://, docker-container://NAME, "
        "kube-pod://NAME and others.  [in this process]",
    ),
    click.option("--tlscacert", metavar="FILE", help="Authority that signed the daemon's name."),
    click.option("--tlscert", metavar="FILE", help="Our certificate."),
    click.option("--tlskey", metavar="FILE", help="Its key."),
    click.option("--tlsservername", metavar="NAME", help="Name to expect in its certificate."),
    click.option(
        "--remote-frontend",
        is_flag=True,
        help="Let the daemon run the frontend (its own `dockerfile.v0`, `gateway.v0`).",
    ),
)


def engine_options(command: F) -> F:
    """Add the options that `open_engine` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def address_of(options: Mapping[str, Any]) -> str:
    """Give the daemon's address, empty for the embedded engine."""
    return options.get("addr") or ""


@asynccontextmanager
async def open_engine(options: Mapping[str, Any]) -> AsyncIterator[Engine]:
    """Open the engine that the options name.

    Raises:
        UsageError: the address is malformed, or options for a daemon come without one.
        ConnectionFailedError: no daemon answers.
    """
    address = address_of(options)
    if not address:
        for name in ("tlscacert", "tlscert", "tlskey", "tlsservername", "remote_frontend"):
            if options.get(name):
                raise UsageError(f"--{name.replace('_', '-')} goes with --addr")
        from torana.gateway.engines.embedded import EmbeddedEngine

        async with EmbeddedEngine.open(
            Path(memo.store_root()), plugin_manager(options)
        ) as embedded:
            yield embedded
        return
    from torana.gateway.engines.remote.engine import RemoteEngine

    docker_host = os.environ.get("DOCKER_HOST", "")
    async with RemoteEngine.open(
        address, tls=_tls(options), docker_host=docker_host, plugins=plugin_manager(options)
    ) as remote:
        yield remote


def _tls(options: Mapping[str, Any]) -> TLS:
    from torana.gateway.engines.remote.address import TLS

    def path(name: str) -> Path | None:
        return Path(options[name]) if options.get(name) else None

    return TLS(
        authority=path("tlscacert"),
        certificate=path("tlscert"),
        key=path("tlskey"),
        server_name=options.get("tlsservername") or "",
    )
