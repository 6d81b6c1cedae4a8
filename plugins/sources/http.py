"""The http source: one file from a web server.

Without a checksum the file is fetched when its key is asked for, since its digest is the key;
earlier downloads are asked for by their entity tags. With one the key needs no network, unless a
signature is to be checked: nothing is cached, and no step runs, before that.

Spec: reference of sources, section 6; reference of the solver, section 6.1.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Final

from torana.core.cache.ref import Tree
from torana.core.errors import CorruptError, NotFoundError
from torana.core.oci.digest import Digest
from torana.core.ops.source import SourceKey, SourceRequest, SourceServices
from torana.core.pool import run_blocking
from torana.plugins.registry.threads import run_network, web_pool
from torana.plugins.sources.downloads import Download, Downloads
from torana.plugins.sources.httpoptions import (
    DetachedSignature,
    HttpOptions,
    file_name,
    http_key,
    parse_http,
)
from torana.plugins.sources.pgpsignature import SignatureError, verify_pgp
from torana.plugins.sources.webclient import Answer, FetchError, WebClient, redacted

_DEFAULT_MODE: Final = 0o600
_RECEIVED: Final = ".torana-received"
_LIMIT_BYTES: Final = 64 << 30


class HttpSource:
    """Serves `http://` and `https://`."""

    schemes = ("http", "https")

    def open(self, request: SourceRequest, services: SourceServices) -> HttpInstance:
        return HttpInstance(parse_http(request), services)


class _Resolved:
    """What one build knows about one download; the lock makes the others wait for the first."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.download: Download | None = None


class HttpInstance:
    """One file."""

    def __init__(self, options: HttpOptions, services: SourceServices) -> None:
        self._options = options
        self._services = services
        self._downloads = Downloads(services.database)
        self._request_id = Digest.of(
            repr((options.url, options.filename, options.mode, options.uid, options.gid)).encode()
            + repr((options.auth_header_secret, options.headers)).encode()
        )

    async def cache_key(self, index: int) -> SourceKey:
        options = self._options
        if options.signature is not None:
            await self._verify(options.signature)
        if options.checksum is not None:
            key = http_key(options, file_name(options, None), options.checksum, None)
            return SourceKey(key, pin=options.checksum)
        found = await self._resolve()
        key = http_key(options, found.filename, found.digest, found.modified_s)
        return SourceKey(key, pin=found.digest)

    async def snapshot(self) -> Tree | None:
        """Give the file in a directory of its own.

        Raises:
            CorruptError: it has not the digest that was asked for.
            FetchError: the server does not give it.
            SignatureError: it is not signed as asked for.
        """
        if self._options.signature is not None:
            await self._verify(self._options.signature)
        if self._options.checksum is None:
            found = await self._resolve()
            try:
                return await self._services.refs.get(found.ref)
            except NotFoundError:  # collected in the meantime
                self._forget()
        found = await self._resolve()
        return await self._services.refs.get(found.ref)

    async def _verify(self, signature: DetachedSignature) -> None:
        """Check the signature of what is fetched; once per build."""
        found = await self._resolve()
        verified = ("http", "signature", found.ref, signature)
        memo = self._services.memo
        async with memo.setdefault(("http", "signature lock", *verified), asyncio.Lock()):
            if verified in memo:
                return
            ref = await self._services.refs.get(found.ref)
            try:
                with ref.mount() as root:
                    await verify_pgp(root / found.filename, signature.text.encode(), signature.keys)
            except SignatureError as err:
                raise SignatureError(
                    f"{redacted(self._options.url)}: {err.message}", hint=err.hint
                ) from err
            finally:
                await ref.release()
            memo[verified] = True

    def _shared(self) -> _Resolved:
        key = ("http", self._request_id, self._options.checksum)
        shared: _Resolved = self._services.memo.setdefault(key, _Resolved())
        return shared

    def _forget(self) -> None:
        self._shared().download = None

    async def _resolve(self) -> Download:
        shared = self._shared()
        async with shared.lock:
            if shared.download is None:
                shared.download = await self._fetch()
            return shared.download

    async def _fetch(self) -> Download:
        headers = {**dict(self._options.headers), **await self._authorization()}
        known = await self._known()
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        status = self._services.progress.status
        shown = redacted(self._options.url)

        def progress(current: int, total: int) -> None:
            loop.call_soon_threadsafe(lambda: status(shown, current=current, total=total))

        client = WebClient(stop=stop, limit_bytes=_LIMIT_BYTES, progress=progress)
        if known:
            found = await run_network(stop, partial(self._ask, client, headers, known), web_pool)
            if found is not None:
                return found
        refs = self._services.refs
        new = await refs.new_mutable(None, description=f"http url {shown}")
        try:
            with new.mount() as root:
                body = _Body(root / _RECEIVED)
                try:
                    headers |= _if_none_match(known)
                    answer = await run_network(
                        stop,
                        partial(client.get, self._options.url, headers, body.write),
                        web_pool,
                    )
                finally:
                    body.close()
                if answer.status == 304:
                    match = _match(answer, known)
                    if match is None:
                        raise FetchError(f"{shown}: not modified, but since when it does not say")
                elif answer.status != 200:
                    raise FetchError(f"{shown}: invalid response status {answer.status}")
                else:
                    match = None
                    await run_blocking(self._finish, root, body, answer)
            if match is not None:
                await new.release()
                return match
            ref = await new.commit()
        except BaseException:
            await new.release()
            raise
        await ref.release()
        status(shown, current=body.size, total=body.size, done=True)
        download = Download(
            etag=_etag(answer),
            ref=ref.id,
            digest=body.digest,
            filename=self._name(answer),
            modified_s=_modified_s(answer),
        )
        if download.etag and self._options.checksum is None:
            await run_blocking(self._downloads.add, self._request_id, download)
        return download

    def _name(self, answer: Answer) -> str:
        return file_name(self._options, None if self._options.checksum is not None else answer)

    def _finish(self, root: Path, body: _Body, answer: Answer) -> None:
        """Check what was received and give it its name, mode, owner and time."""
        options = self._options
        if options.checksum is not None and not body.matches(options.checksum):
            got = body.digest_by(options.checksum.algorithm)
            raise CorruptError(
                f"digest mismatch for {redacted(options.url)}: {got} (expected: {options.checksum})"
            )
        target = root / self._name(answer)
        body.path.rename(target)
        os.chown(target, options.uid, options.gid)
        target.chmod(options.mode or _DEFAULT_MODE)
        modified_s = _modified_s(answer) or 0
        os.utime(target, (modified_s, modified_s))
        os.utime(root, (modified_s, modified_s))

    def _ask(
        self, client: WebClient, headers: dict[str, str], known: dict[str, Download]
    ) -> Download | None:
        """Ask by HEAD whether an earlier download still holds: some servers err with GET."""
        try:
            answer = client.head(self._options.url, {**headers, **_if_none_match(known)})
        except FetchError:
            return None
        if answer.status not in (200, 304):
            return None
        match = _match(answer, known)
        if match is None or (
            answer.status == 200 and match.filename != file_name(self._options, answer)
        ):
            return None
        return match

    async def _known(self) -> dict[str, Download]:
        """Give earlier downloads that are still there, by entity tag."""
        if self._options.checksum is not None:
            return {}
        known = {}
        for download in await run_blocking(self._downloads.find, self._request_id):
            try:
                ref = await self._services.refs.get(download.ref)
            except NotFoundError:
                await run_blocking(self._downloads.remove, self._request_id, download.etag)
                continue
            await ref.release()
            known[download.etag] = download
        return known

    async def _authorization(self) -> dict[str, str]:
        wanted = self._options.auth_header_secret
        host = self._options.host
        if wanted:
            value = await self._secret(wanted)
            if value is None:
                raise NotFoundError(
                    f"failed to retrieve HTTP auth secret {wanted}",
                    hint=f"give it with --secret id={wanted},src=FILE",
                )
            return {"Authorization": value}
        headers = {}
        header = await self._secret(f"HTTP_AUTH_HEADER_{host}")
        if header is not None:
            headers["Authorization"] = header
        token = await self._secret(f"HTTP_AUTH_TOKEN_{host}")
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    async def _secret(self, id: str) -> str | None:
        provider = self._services.secrets
        value = None if provider is None else await provider.get(id)
        return None if value is None else value.decode("latin-1").strip()


class _Body:
    """A file that is being received, hashed on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "w+b")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, offset: int, data: bytes) -> None:
        if offset != self.size:  # from the beginning again
            assert offset == 0
            self._file.seek(0)
            self._file.truncate()
            self._hash = hashlib.sha256()
            self.size = 0
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        self._file.close()

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self._hash.hexdigest())

    def digest_by(self, algorithm: str) -> Digest:
        if algorithm == "sha256":
            return self.digest
        with open(self.path, "rb") as file:
            return Digest(f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}")

    def matches(self, expected: Digest) -> bool:
        return self.digest_by(expected.algorithm) == expected


def _etag(answer: Answer) -> str:
    return answer.header("etag").removeprefix("W/")


def _if_none_match(known: dict[str, Download]) -> dict[str, str]:
    return {"If-None-Match": ", ".join(known)} if known else {}


def _match(answer: Answer, known: dict[str, Download]) -> Download | None:
    etag = _etag(answer)
    if not etag and answer.status == 304 and len(known) == 1:
        etag = next(iter(known))  # some servers leave it out
    return known.get(etag)


def _modified_s(answer: Answer) -> int | None:
    try:
        return int(parsedate_to_datetime(answer.header("last-modified")).timestamp())
    except (TypeError, ValueError):
        return None
