"""The http source against a real server on loopback."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
from tests.integration.sources.conftest import Store, Web

from torana.core.errors import CorruptError, NotFoundError
from torana.core.oci.digest import Digest
from torana.core.ops.source import SourceKey, SourceRequest, SourceServices
from torana.core.pool import run_blocking, worker_count
from torana.plugins.registry.threads import DOWNLOADS, WEB_DOWNLOADS, run_network
from torana.plugins.sources import http
from torana.plugins.sources.webclient import FetchError, TooLargeError

T = TypeVar("T")


def instance(web: Web, services: SourceServices, rest: str = "", **attrs: str) -> http.HttpInstance:
    named = {f"http.{name}": value for name, value in attrs.items()}
    request = SourceRequest(scheme="http", rest=rest or web.rest, attrs=named)
    return http.HttpSource().open(request, services)


async def look(
    source: http.HttpInstance, function: Callable[[str], T], name: str = "file.bin"
) -> T:
    tree = await source.snapshot()
    assert tree is not None
    with tree.mount() as root:
        assert os.listdir(root) == [name]
        value = function(os.path.join(root, name))
    await tree.release()
    return value


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


async def fetch(web: Web, services: SourceServices, **attrs: str) -> tuple[SourceKey, bytes]:
    source = instance(web, services, **attrs)
    return await source.cache_key(0), await look(source, read)


async def test_one_request_gives_key_and_file(store: Store, web: Web) -> None:
    web.headers["Last-Modified"] = "Thu, 01 Jan 1970 00:01:00 GMT"
    services = store.build()
    source = instance(web, services, perm="0640", uid="3", gid="4")
    key = await source.cache_key(0)
    assert key.is_last
    assert key.pin == Digest.of(b"hello")
    found = await look(source, os.stat)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (3, 4, 0o640)
    assert found.st_mtime == 60
    assert web.methods() == ["GET"]
    assert store.progress.statuses[-1] == (f"http://{web.rest}", 5, 5, True)
    # Another vertex of the same build that asks for the same does not ask the server again.
    again = instance(web, services, perm="0640", uid="3", gid="4")
    assert await again.cache_key(0) == key
    assert web.methods() == ["GET"]


async def test_the_mode_is_private_by_default(store: Store, web: Web) -> None:
    found = await look(instance(web, store.build()), os.stat)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_mtime == 0


async def test_an_unchanged_file_is_not_sent_again(store: Store, web: Web) -> None:
    first = await fetch(web, store.build())
    second = await fetch(web, store.build())
    assert second == first
    assert web.methods() == ["GET", "HEAD"]
    assert web.requests[1][1]["If-None-Match"] == '"one"'


@pytest.mark.parametrize("sends_etag", [True, False])
async def test_a_server_without_head(store: Store, web: Web, sends_etag: bool) -> None:
    web.head_status = 405
    web.sends_etag_with_304 = sends_etag
    assert await fetch(web, store.build()) == await fetch(web, store.build())
    assert web.methods() == ["GET", "HEAD", "GET"]
    assert store.unfinished() == set()


async def test_a_changed_file_is_sent(store: Store, web: Web) -> None:
    first, _ = await fetch(web, store.build())
    web.body, web.etag = b"other", '"two"'
    second, body = await fetch(web, store.build())
    assert body == b"other"
    assert second.pin != first.pin
    # Back to the first: both are known.
    web.body, web.etag = b"hello", '"one"'
    assert (await fetch(web, store.build()))[0] == first
    assert web.methods() == ["GET", "HEAD", "GET", "HEAD"]


async def test_a_collected_download_is_fetched_again(store: Store, web: Web) -> None:
    await fetch(web, store.build())
    store.forget_all()
    assert (await fetch(web, store.build()))[1] == b"hello"
    assert web.methods() == ["GET", "GET"]


async def test_with_a_checksum_the_key_needs_no_network(store: Store, web: Web) -> None:
    digest = Digest.of(b"hello")
    source = instance(web, store.build(), checksum=digest)
    key = await source.cache_key(0)
    assert key.pin == digest
    assert web.requests == []
    assert await look(source, read) == b"hello"
    sha512 = "sha512:" + __import__("hashlib").sha512(b"hello").hexdigest()
    assert await look(instance(web, store.build(), checksum=sha512), read) == b"hello"


async def test_a_wrong_checksum_leaves_nothing(store: Store, web: Web) -> None:
    source = instance(web, store.build(), checksum=Digest.of(b"else"))
    with pytest.raises(CorruptError, match="digest mismatch for http://127") as error:
        await source.snapshot()
    assert str(Digest.of(b"hello")) in str(error.value)
    assert store.worker.refs.records.ids() == []
    assert store.unfinished() == set()


async def test_a_broken_connection_is_taken_up_where_it_stopped(store: Store, web: Web) -> None:
    web.body = bytes(range(256)) * 4000
    web.break_after = [600_000, 100_000]
    _, body = await fetch(web, store.build())
    assert body == web.body
    ranges = [headers.get("Range") for _, headers in web.requests]
    assert ranges == [None, "bytes=600000-", "bytes=700000-"]
    assert web.requests[1][1]["If-Range"] == '"one"'


@pytest.mark.parametrize("case", ["no ranges", "weak", "gzip"])
async def test_or_from_the_beginning(store: Store, web: Web, case: str) -> None:
    web.body = os.urandom(600_000)
    web.break_after = [300_000]
    web.has_ranges = case != "no ranges"
    web.is_gzipped = case == "gzip"
    web.etag = 'W/"weak"' if case == "weak" else web.etag
    _, body = await fetch(web, store.build())
    assert body == web.body


async def test_it_gives_up(store: Store, web: Web) -> None:
    web.body = b"x" * 1000
    web.break_after = [10] * 20
    with pytest.raises(FetchError, match="the connection broke"):
        await instance(web, store.build()).cache_key(0)
    assert len(web.requests) == 6
    assert store.unfinished() == set()


async def test_busy_servers_are_asked_again(store: Store, web: Web) -> None:
    web.statuses = [429, 503]
    assert (await fetch(web, store.build()))[1] == b"hello"
    assert len(web.requests) == 3


@pytest.mark.parametrize("status", [404, 500])
async def test_other_failures_are_not_tried_again(store: Store, web: Web, status: int) -> None:
    web.statuses = [status]
    with pytest.raises(FetchError, match=f"invalid response status {status}"):
        await instance(web, store.build()).cache_key(0)
    assert len(web.requests) == 1
    assert store.unfinished() == set()


async def test_an_unreachable_server(store: Store, web: Web) -> None:
    source = instance(web, store.build(), "127.0.0.1:1/x")
    with pytest.raises(FetchError, match="1:1/x: connection refused") as error:
        await source.cache_key(0)
    assert error.value.hint


async def test_names_from_the_server(store: Store, web: Web) -> None:
    web.headers["Content-Disposition"] = 'attachment; filename="../real.tar"'
    source = instance(web, store.build())
    await source.cache_key(0)
    assert await look(source, read, "real.tar") == b"hello"


async def test_redirects_lose_the_credentials(store: Store, web: Web) -> None:
    store.secrets.values["HTTP_AUTH_TOKEN_127.0.0.1"] = b"abc\n"
    web.location = f"http://localhost:{web.port}/elsewhere"
    assert (await fetch(web, store.build()))[1] == b"hello"
    sent = [headers.get("Authorization") for _, headers in web.requests]
    assert sent == ["Bearer abc", None]


async def test_credentials(store: Store, web: Web) -> None:
    store.secrets.values["HTTP_AUTH_HEADER_127.0.0.1"] = b"Basic eDp5"
    await fetch(web, store.build())
    store.secrets.values["mine"] = b"Custom z"
    await fetch(web, store.build(), authheadersecret="mine")
    await instance(web, store.build(), f"u:p@{web.rest}/2").cache_key(0)
    sent = [headers.get("Authorization") for _, headers in web.requests]
    assert sent == ["Basic eDp5", "Custom z", "Basic eDp5"]
    shown = [id for id, *_ in store.progress.statuses]
    assert not any(":p@" in id for id in shown)
    with pytest.raises(NotFoundError, match="failed to retrieve HTTP auth secret other"):
        await instance(web, store.build(), authheadersecret="other").cache_key(0)


async def test_only_two_headers_are_sent(store: Store, web: Web) -> None:
    named = {"header.accept": "text/plain", "header.user-agent": "me/1", "header.cookie": "no"}
    await instance(web, store.build(), **named).cache_key(0)
    headers = web.requests[0][1]
    assert headers["Accept"] == "text/plain"
    assert headers["User-Agent"] == "me/1"
    assert "Cookie" not in headers


async def test_a_limit(store: Store, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LIMIT_BYTES", 4)
    with pytest.raises(TooLargeError, match="longer than 4 bytes"):
        await instance(web, store.build()).cache_key(0)
    assert store.unfinished() == set()


async def test_a_server_that_says_to_come_back_in_a_year(store: Store, web: Web) -> None:
    web.statuses = [429] * 10
    web.headers["Retry-After"] = str(365 * 86400)
    task = asyncio.ensure_future(instance(web, store.build()).cache_key(0))
    while not web.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not store.unfinished()


async def test_slow_servers_hold_up_nothing_else(store: Store, web: Web) -> None:
    """Hashing, unpacking and registries have threads of their own."""
    waiting: list[asyncio.StreamWriter] = []

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(writer)
        await reader.read()

    count = max(worker_count(), DOWNLOADS, WEB_DOWNLOADS)
    async with await asyncio.start_server(never, "127.0.0.1") as server:
        rest = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        services = store.build()
        slow = [
            asyncio.ensure_future(instance(web, services, f"{rest}{number}").cache_key(0))
            for number in range(count)
        ]
        try:
            while len(waiting) < min(worker_count(), WEB_DOWNLOADS):
                await asyncio.sleep(0.01)
            others = [
                asyncio.ensure_future(run_blocking(int)),
                asyncio.ensure_future(run_network(threading.Event(), int)),
            ]
            _, pending = await asyncio.wait(others, timeout=10)
            assert not pending
        finally:
            for task in slow:
                task.cancel()
            server.close()
            for writer in waiting:
                writer.close()
            found = await asyncio.gather(*slow, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in found)
