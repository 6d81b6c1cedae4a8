"""Registry credentials and tokens of the client.

A client that can fetch tokens itself keeps its passwords: the engine only sees tokens that expire.
It has a key per registry, its *token authority*; a session that proves that it has the same key
may use a token that another one has brought.

Spec: `moby.filesync.v1.Auth`; BuildKit's `session/auth`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from torana.core.errors import CorruptError, UnsupportedError
from torana.core.records import dataclass
from torana.gateway.protocol import filesync_pb2 as pb
from torana.gateway.session import ed25519
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import (
    Handler,
    Metadata,
    Session,
    SessionLostError,
    Unary,
    call,
    decode,
)

T = TypeVar("T")

_SERVICE: Final = "/moby.filesync.v1.Auth/"
_TIMEOUT_S: Final = 60.0
_DEFAULT_EXPIRY_S: Final = 60
CLIENT_ID: Final = "buildkit-client"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password; without a user the secret is an identity token, without both nothing."""

    username: str = ""
    secret: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a registry's challenge asks for."""

    host: str
    realm: str
    service: str = ""
    scopes: tuple[str, ...] = ()
    client_id: str = CLIENT_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token; `issued_at` in seconds since 1970, 0 where it is unknown."""

    token: str
    expires_in_s: int = _DEFAULT_EXPIRY_S
    issued_at: int = 0

    def __repr__(self) -> str:
        return f"Token(expires_in_s={self.expires_in_s})"


class CredentialStore(Protocol):
    """Where a client finds credentials; empty ones where there are none."""

    async def credentials(self, host: str) -> Credentials: ...


FetchToken = Callable[[TokenRequest, Credentials], Awaitable[Token]]


class Auth:
    """The client's end.

    Without `fetch_token` the engine gets credentials and fetches tokens itself. `seed` gives 16
    secret bytes per host, the same for as long as the user's configuration lasts.
    """

    def __init__(
        self,
        store: CredentialStore,
        *,
        fetch_token: FetchToken | None = None,
        seed: Callable[[str], bytes] | None = None,
    ) -> None:
        self._store = store
        self._fetch_token = fetch_token
        self._seed = seed
        self._own_seed = secrets.token_bytes(16)

    def methods(self) -> Mapping[str, Handler]:
        return {
            f"{_SERVICE}Credentials": Unary(self._credentials),
            f"{_SERVICE}FetchToken": Unary(self._fetch),
            f"{_SERVICE}GetTokenAuthority": Unary(self._authority),
            f"{_SERVICE}VerifyTokenAuthority": Unary(self._verify),
        }

    async def _credentials(self, request: bytes, metadata: Metadata) -> bytes:
        host = decode(pb.CredentialsRequest, request, "Credentials").Host
        found = await self._store.credentials(host)
        answer = pb.CredentialsResponse(Username=found.username, Secret=found.secret)
        return answer.SerializeToString()

    async def _fetch(self, request: bytes, metadata: Metadata) -> bytes:
        fetch = self._fetcher()
        asked = decode(pb.FetchTokenRequest, request, "FetchToken")
        wanted = TokenRequest(
            host=asked.Host,
            realm=asked.Realm,
            service=asked.Service,
            scopes=tuple(asked.Scopes),
            client_id=asked.ClientID or CLIENT_ID,
        )
        token = await fetch(wanted, await self._store.credentials(asked.Host))
        answer = pb.FetchTokenResponse(
            Token=token.token,
            ExpiresIn=token.expires_in_s or _DEFAULT_EXPIRY_S,
            IssuedAt=token.issued_at,
        )
        return answer.SerializeToString()

    async def _authority(self, request: bytes, metadata: Metadata) -> bytes:
        self._fetcher()
        asked = decode(pb.GetTokenAuthorityRequest, request, "GetTokenAuthority")
        key = ed25519.public_key(await self._key(asked.Host, asked.Salt))
        return pb.GetTokenAuthorityResponse(PublicKey=key).SerializeToString()

    async def _verify(self, request: bytes, metadata: Metadata) -> bytes:
        self._fetcher()
        asked = decode(pb.VerifyTokenAuthorityRequest, request, "VerifyTokenAuthority")
        signature = ed25519.sign(await self._key(asked.Host, asked.Salt), asked.Payload)
        answer = pb.VerifyTokenAuthorityResponse(Signed=signature + asked.Payload)
        return answer.SerializeToString()

    def _fetcher(self) -> FetchToken:
        if self._fetch_token is None:
            raise UnsupportedError("client side tokens disabled")
        return self._fetch_token

    async def _key(self, host: str, salt: bytes) -> bytes:
        """Give the seed of the key for a host; without credentials all clients have the same."""
        found = await self._store.credentials(host)
        seed = b""
        if found.secret:
            seed = self._seed(host) if self._seed is not None else self._own_seed
        return hmac.new(salt, seed, hashlib.sha256).digest()


class SessionAuth:
    """The engine's end: asks the sessions of a build. `salt` is the same for the whole process."""

    salt: Final = secrets.token_bytes(32)

    def __init__(self, sessions: SessionManager, ids: Sequence[str]) -> None:
        self._sessions = sessions
        self._ids = ids

    async def credentials(self, host: str) -> Credentials:
        """Give the credentials of the first session that offers any; empty ones mean anonymous.

        Raises:
            ToranaError: the client failed to find out.
        """

        async def use(session: Session) -> Credentials | None:
            answer = await call(
                session,
                f"{_SERVICE}Credentials",
                pb.CredentialsRequest(Host=host),
                pb.CredentialsResponse,
            )
            return Credentials(answer.Username, answer.Secret)

        return await self._first(use) or Credentials()

    async def fetch_token(self, request: TokenRequest) -> Token:
        """Have a client fetch a token.

        Raises:
            ToranaError: no client could.
        """

        async def use(session: Session) -> Token:
            answer = await call(
                session,
                f"{_SERVICE}FetchToken",
                pb.FetchTokenRequest(
                    ClientID=request.client_id,
                    Host=request.host,
                    Realm=request.realm,
                    Service=request.service,
                    Scopes=request.scopes,
                ),
                pb.FetchTokenResponse,
            )
            return Token(
                token=answer.Token,
                expires_in_s=answer.ExpiresIn or _DEFAULT_EXPIRY_S,
                issued_at=answer.IssuedAt,
            )

        async with asyncio.timeout(_TIMEOUT_S):
            return await self._sessions.any(self._ids, use)

    async def token_authority(self, host: str) -> bytes | None:
        """Give the public key of the first session's authority, None where no client has one.

        Raises:
            ToranaError: the client failed to tell, or its key is malformed.
        """

        async def use(session: Session) -> bytes | None:
            request = pb.GetTokenAuthorityRequest(Host=host, Salt=self.salt)
            method = f"{_SERVICE}GetTokenAuthority"
            answer = await call(session, method, request, pb.GetTokenAuthorityResponse)
            if len(answer.PublicKey) != 32:
                raise CorruptError(f"invalid pubkey length {len(answer.PublicKey)}")
            return answer.PublicKey

        return await self._first(use)

    async def has_authority(self, host: str, key: bytes) -> bool:
        """Say whether a session of this build proves that it has the authority `key`."""

        async def use(session: Session) -> bool:
            payload = secrets.token_bytes(32)
            request = pb.VerifyTokenAuthorityRequest(Host=host, Payload=payload, Salt=self.salt)
            method = f"{_SERVICE}VerifyTokenAuthority"
            answer = await call(session, method, request, pb.VerifyTokenAuthorityResponse)
            signature, signed = (
                answer.Signed[: ed25519.SIGNATURE_BYTES],
                answer.Signed[ed25519.SIGNATURE_BYTES :],
            )
            return hmac.compare_digest(signed, payload) and ed25519.verify(key, payload, signature)

        return bool(await self._first(use))

    async def _first(self, use: Callable[[Session], Awaitable[T]]) -> T | None:
        """Give what the first session gives that serves the method; None where none does."""

        async def tolerant(session: Session) -> T | None:
            try:
                return await use(session)
            except UnsupportedError:
                return None
            except SessionLostError:
                if session.is_closed:
                    raise
                return None  # BuildKit's clients say so when they keep tokens to themselves

        if not self._ids:
            return None
        async with asyncio.timeout(_TIMEOUT_S):
            return await self._sessions.any(self._ids, tolerant)
