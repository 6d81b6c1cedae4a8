"""What a build's session offers the daemon: folders, secrets, agents, layouts, credentials,
and places for exports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from torana.gateway.engines.agents import key_agent
from torana.gateway.engines.clientsecrets import ClientSecrets, FindReader
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.engines.remote.credentials import registry_auth
from torana.gateway.engines.remote.exports import Exports
from torana.gateway.session.contents import Contents
from torana.gateway.session.filesend import FileSend
from torana.gateway.session.filesync import FileSync
from torana.gateway.session.layout import LayoutStore
from torana.gateway.session.secrets import Secrets
from torana.gateway.session.ssh import SSHAgents
from torana.gateway.session.transport import Service


@asynccontextmanager
async def services_of(
    request: BuildRequest,
    exports: Exports,
    find_reader: FindReader,
    caches: Mapping[str, LayoutStore],
) -> AsyncIterator[Sequence[Service]]:
    """Give the services of one build, which last while it is entered.

    `caches` are the stores of its local caches, by id.
    """
    services: list[Service] = [
        FileSync(request.local_dirs),
        Secrets(ClientSecrets(request.secrets, find_reader)),
        registry_auth(),
    ]
    targets = exports.targets()
    if targets:
        services.append(FileSend(targets))
    stores = dict(caches) | {
        f"oci:{name}": LayoutStore(path) for name, path in request.oci_layouts.items()
    }
    layout = exports.layout()
    if layout is not None:
        stores["export"] = layout
    if stores:
        services.append(Contents(stores))
    async with AsyncExitStack() as stack:
        sockets: dict[str, Path] = {}
        for agent in request.agents:
            if agent.socket is not None:
                sockets[agent.id] = agent.socket
            else:
                sockets[agent.id] = await stack.enter_async_context(key_agent(agent.keys))
        if sockets:
            services.append(SSHAgents(sockets))
        yield services
