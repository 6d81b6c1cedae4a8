"""Choosing the network of steps that ask for none in particular, and saying why."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.errors import ToranaError, UnsupportedError, UserError
from torana.core.ops.exec.networks import NetworkNamespace, NetworkProvider
from torana.core.records import dataclass
from torana.core.snapshots.namespace import is_mapped_user
from torana.plugins.networks.cni import CNINetwork, CNISettings, bridge_network, read_network
from torana.plugins.networks.namespaces import network_namespace
from torana.plugins.networks.usermode import PastaNetwork, SlirpNetwork

log = logging.getLogger(__name__)

MODES: Final = ("auto", "host", "none", "pasta", "slirp4netns", "cni", "bridge")


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """What steps get; without a provider, the host's network."""

    name: str
    provider: NetworkProvider | None
    reason: str


class NoNetwork:
    """Loopback only."""

    name = "none"

    @asynccontextmanager
    async def open(
        self, id: str, directory: Path, hostname: str
    ) -> AsyncIterator[NetworkNamespace | None]:
        async with network_namespace(directory / "network") as namespace:
            yield NetworkNamespace(namespace)


class ChosenNetwork:
    """A network that is looked for when the first step needs it."""

    name = "auto"

    def __init__(self, root: Path, wanted: str, cni: CNISettings) -> None:
        self._root = root
        self._wanted = wanted
        self._cni = cni
        self._task: asyncio.Task[NetworkChoice] | None = None

    async def choice(self) -> NetworkChoice:
        """Give what is used, looked for by the first who asks; raises as `choose_network`."""
        if self._task is None:
            coroutine = choose_network(self._root, wanted=self._wanted, cni=self._cni)
            self._task = asyncio.get_running_loop().create_task(coroutine)
        return await asyncio.shield(self._task)

    @asynccontextmanager
    async def open(
        self, id: str, directory: Path, hostname: str
    ) -> AsyncIterator[NetworkNamespace | None]:
        choice = await self.choice()
        if choice.provider is None:
            yield None
            return
        async with choice.provider.open(id, directory, hostname) as namespace:
            yield namespace


async def choose_network(root: Path, *, wanted: str = "auto", cni: CNISettings) -> NetworkChoice:
    """Try what there is, the best first; each choice has made and left a namespace.

    Raises:
        UserError: `wanted` is unknown.
        UnsupportedError: what is wanted by name does not work.
    """
    if wanted not in MODES:
        raise UserError(f"unknown network: `{wanted}`", hint=f"known: {', '.join(MODES)}")
    if wanted == "host":
        return NetworkChoice("host", None, "asked for")
    if wanted != "auto":
        provider = _provider(wanted, root, cni)
        problem = await why_not(provider)
        if problem is not None:
            raise UnsupportedError(f"network `{wanted}` does not work here: {problem}")
        return NetworkChoice(wanted, provider, "asked for")
    if cni.config.exists():
        # An administrator's configuration is not passed over.
        return NetworkChoice("cni", _provider("cni", root, cni), f"configured by {cni.config}")
    if not is_mapped_user():
        return NetworkChoice("host", None, "no CNI network is configured")
    problems: list[str] = []
    for name in ("pasta", "slirp4netns"):
        provider = _provider(name, root, cni)
        problem = await why_not(provider)
        if problem is None:
            return NetworkChoice(name, provider, "; ".join(problems) or "works without rights")
        problems.append(problem)
    reason = "; ".join(problems)
    log.warning("steps share the host's network: %s", reason)
    return NetworkChoice("host", None, reason)


async def why_not(provider: NetworkProvider) -> str | None:
    """Make a namespace and leave it; gives what went wrong, None if nothing."""
    directory = Path(tempfile.mkdtemp(prefix="torana-network-"))
    try:
        async with provider.open(directory.name, directory, ""):
            return None
    except ToranaError as err:
        return err.message
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _provider(name: str, root: Path, cni: CNISettings) -> NetworkProvider:
    match name:
        case "pasta":
            return PastaNetwork()
        case "slirp4netns":
            return SlirpNetwork()
        case "cni":
            return CNINetwork(name, read_network(cni.config), cni.folders)
        case "bridge":
            network = bridge_network(cni.bridge, root / "networks")
            return CNINetwork(name, network, cni.folders)
        case _:
            return NoNetwork()
