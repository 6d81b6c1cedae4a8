"""`facts`: what an engine's steps run with, and why; what `torana debug workers` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torana.core.errors import ToranaError
from torana.core.worker import Worker
from torana.gateway.engines.network import LazyNetwork
from torana.plugins.manager import PluginManager

# What a daemon of ours says of its worker, by labels of our own.
LABELS: Final = {
    name: f"torana.worker.{name.lower()}" for name in ("User", "Snapshotter", "Runtime", "Network")
}


async def facts(
    worker: Worker, network: LazyNetwork, plugins: PluginManager, *, runtime: str = ""
) -> Mapping[str, str]:
    """Give a text of one line or more for each name of `LABELS`; `runtime` is the one wanted."""
    choice = worker.choice
    return {
        "User": worker.user.describe(),
        "Snapshotter": f"{choice.snapshotter.name} ({choice.reason})",
        "Runtime": await _runtime(worker, plugins, runtime),
        "Network": await _network(network),
    }


async def _runtime(worker: Worker, plugins: PluginManager, wanted: str) -> str:
    from torana.plugins.runtimes.choose import choose_runtime

    try:
        choice = await choose_runtime(
            plugins.runtimes(wanted), worker.root / "executor", wanted=wanted
        )
    except ToranaError as err:
        return _none(err)
    refused = [f"not {name}: {reason}" for name, reason in choice.refused]
    return "\n".join([f"{choice.runtime.name} ({choice.reason})", *refused])


async def _network(network: LazyNetwork) -> str:
    try:
        choice = await network.choice()
    except ToranaError as err:
        return _none(err)
    return f"{choice.name} ({choice.reason})"


def _none(err: ToranaError) -> str:
    lines = [f"none ({err.message})"]
    if err.hint:
        lines.append(f"hint: {err.hint}")
    return "\n".join(lines)
