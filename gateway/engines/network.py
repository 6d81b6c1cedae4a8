"""`LazyNetwork`: the network of an engine's steps, looked for when the first step needs it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torana.core.ops.exec.networks import NetworkNamespace

if TYPE_CHECKING:
    from torana.plugins.networks.choose import ChosenNetwork, NetworkChoice
    from torana.plugins.networks.cni import CNISettings


class LazyNetwork:
    """Imports the networks when a step needs one."""

    name = "auto"

    def __init__(self, root: Path, wanted: str, cni: CNISettings | None) -> None:
        self._root = root
        self._wanted = wanted
        self._cni = cni
        self._chosen: ChosenNetwork | None = None

    async def choice(self) -> NetworkChoice:
        """Give what steps get, and why.

        Raises:
            ToranaError: what is asked for is unknown, or does not work.
        """
        return await self._network().choice()

    @asynccontextmanager
    async def open(
        self, id: str, directory: Path, hostname: str
    ) -> AsyncIterator[NetworkNamespace | None]:
        async with self._network().open(id, directory, hostname) as namespace:
            yield namespace

    def _network(self) -> ChosenNetwork:
        if self._chosen is None:
            from torana.plugins.networks.choose import ChosenNetwork
            from torana.plugins.networks.cni import CNISettings

            self._chosen = ChosenNetwork(self._root, self._wanted, self._cni or CNISettings())
        return self._chosen


def wanted_network() -> str:
    """Give what `TORANA_NETWORK` asks for, else `auto`."""
    return os.environ.get("TORANA_NETWORK", "") or "auto"
