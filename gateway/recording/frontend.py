"""`RecordedFrontend`: runs a frontend of this process and keeps its conversation in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from torana import __version__
from torana.core.errors import ToranaError
from torana.core.records import dataclass
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.loopback import LoopbackTransport
from torana.gateway.client.client import Client, Result
from torana.gateway.client.remote import RemoteClient
from torana.gateway.recording.recording import Recording, RecordingTransport
from torana.gateway.recording.redaction import Redaction


@dataclass(frozen=True, slots=True)
class RecordedFrontend:
    """Builds as `frontend` does; `path` is written at the end, however that comes.

    `options` are given to it beside those of the client.
    """

    name: str
    frontend: Any
    path: Path
    options: Mapping[str, str] = field(default_factory=dict)

    async def build(self, client: Client) -> Result:
        options = {**client.options, **self.options}
        redaction = Redaction.of(options)
        recording = Recording(
            frontend=self.name,
            options=redaction.options(options),
            session_id=client.session_id,
            torana=__version__,
        )
        bridge = Bridge(client)
        transport = RecordingTransport(LoopbackTransport(bridge), recording, redaction)
        try:
            recorded = await RemoteClient.over(
                transport,
                options=options,
                session_id=client.session_id,
                workers=client.workers,
            )
            try:
                await recorded.finish(await self.frontend.build(recorded))
            except ToranaError as err:
                await recorded.fail(err)
                raise
            return await bridge.returned()
        finally:
            await bridge.close()
            recording.save(self.path)
