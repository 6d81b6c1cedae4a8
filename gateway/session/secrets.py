"""Secrets of the client.

Spec: `moby.buildkit.secrets.v1.Secrets`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from torana.core.errors import NotFoundError, UnsupportedError, UserError
from torana.gateway.protocol.secrets_pb2 import GetSecretRequest, GetSecretResponse
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Handler, Metadata, Unary, call, decode

GET: Final = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
MAX_BYTES: Final = 500 << 10


class SecretStore(Protocol):
    """Where a client finds secrets."""

    async def get(self, id: str) -> bytes | None:
        """Give the value, None where there is none of that id."""
        ...


class Secrets:
    """The client's end."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def methods(self) -> Mapping[str, Handler]:
        return {GET: Unary(self._get)}

    async def _get(self, request: bytes, metadata: Metadata) -> bytes:
        id = decode(GetSecretRequest, request, GET).ID
        value = await self._store.get(id)
        if value is None:
            raise NotFoundError(f"secret {id}: not found")
        if len(value) > MAX_BYTES:
            raise UserError(f"secret {id}: longer than {MAX_BYTES} bytes")
        return GetSecretResponse(data=value).SerializeToString()


class SessionSecrets:
    """The engine's end, a `SecretProvider`: asks the sessions of a build one after the other."""

    def __init__(self, sessions: SessionManager, ids: Sequence[str]) -> None:
        self._sessions = sessions
        self._ids = ids

    async def get(self, id: str) -> bytes | None:
        """Give the value of the first session that has it.

        Raises:
            ToranaError: no session has it, and one could not be asked.
        """
        for session_id in self._ids:
            session = await self._sessions.get(session_id)
            try:
                request = GetSecretRequest(ID=id)
                return (await call(session, GET, request, GetSecretResponse)).data
            except (NotFoundError, UnsupportedError):
                continue
        return None
