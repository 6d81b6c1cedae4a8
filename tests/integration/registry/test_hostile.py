"""Servers that mean harm or are slow: what we have stays with us, and every request ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler

import pytest
from tests.integration.registry.servers import (
    Fault,
    FaultyRegistry,
    LocalServer,
    digest_of,
)
from tests.integration.registry.test_client import (
    One,
    basic,
    client,
    closed_connections,
    descriptor,
    named,
    path,
)

from torana.core.content.store import ContentStore
from torana.core.errors import CorruptError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.platform import host_platform
from torana.core.oci.reference import parse_reference
from torana.core.worker import Worker
from torana.plugins.registry import connection, upload
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import Pause, is_same_origin
from torana.plugins.registry.credentials import Credential
from torana.plugins.registry.errors import RegistryAuthError, RegistryError
from torana.plugins.registry.images import ImageResolver, ResolveMode
from torana.plugins.registry.push import Pusher
from torana.plugins.registry.settings import RegistrySettings

__all__ = ["closed_connections"]  # a fixture

BLOB = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(upload, "_CHUNK", 400_000)


@pytest.fixture
def me(faulty: FaultyRegistry) -> Iterator[RegistryAccess]:
    """The access of the one user of a registry that wants tokens."""
    faulty.users["me"] = basic("me:secret")
    faulty.token_service = "tokens"
    made = RegistryAccess(RegistrySettings(), One(Credential("me", "secret")))
    yield made
    made.pools.close()


@pytest.mark.parametrize("largest", [0, 500_000])
@pytest.mark.parametrize("uses", [1, 2])
def test_tokens_that_end_during_a_push(
    faulty: FaultyRegistry, me: RegistryAccess, content: ContentStore, largest: int, uses: int
) -> None:
    faulty.largest = largest
    faulty.uses = uses
    pusher = Pusher(me, named(faulty), content)
    pusher.blob(Descriptor(media_type="x", digest=content.add(BLOB), size=len(BLOB)))
    assert faulty.blobs[digest_of(BLOB)] == BLOB
    assert len(faulty.tokens) > 1


def test_a_push_without_rights(
    faulty: FaultyRegistry, me: RegistryAccess, content: ContentStore
) -> None:
    blob = Descriptor(media_type="x", digest=content.add(BLOB), size=len(BLOB))
    Pusher(me, named(faulty), content).has(blob)
    sent = "/v2/some/repo/blobs/uploads/session0"
    faulty.faults[sent] = [Fault("status", 401)] * 3
    with pytest.raises(RegistryAuthError, match=f"{faulty.host}/some/repo"):
        Pusher(me, named(faulty), content).blob(blob)


@pytest.mark.parametrize("status", [403, 404, 405, 500])
def test_mounts_that_are_refused(
    faulty: FaultyRegistry, content: ContentStore, status: int
) -> None:
    faulty.mount_status = status
    source = {f"containerd.io/distribution.source.{faulty.host}": "other/repo"}
    blob = Descriptor(media_type="x", digest=content.add(BLOB), size=len(BLOB), annotations=source)
    access = RegistryAccess(RegistrySettings(), One(Credential("me", "secret")))
    Pusher(access, named(faulty), content).blob(blob)
    access.pools.close()
    assert faulty.requests["POST /v2/some/repo/blobs/uploads/"] > 1
    assert digest_of(BLOB) in faulty.blobs


def test_challenges_of_others_are_not_answered(
    faulty: FaultyRegistry, me: RegistryAccess, content: ContentStore
) -> None:
    other = FaultyRegistry()
    try:
        other.users["me"] = basic("me:secret")
        other.token_service = "tokens"
        where = path("blobs", digest_of(BLOB))
        target = f"http://{other.host}{where}"
        faulty.faults[where] = [Fault("status", 307, {"Location": target})] * 3
        good = client(credentials=One(Credential("me", "secret")))
        with pytest.raises(RegistryError, match=f"{other.host}, which wants credentials"):
            good.fetch(named(faulty), descriptor(BLOB), content)
    finally:
        other.close()
    assert other.authorizations == [""]


@pytest.mark.parametrize(
    ("url", "other", "expected"),
    [
        ("https://h/a", "https://h/b", True),
        ("https://h/a", "https://H:443/b", True),
        ("https://h/a", "http://h/a", False),
        ("http://h:80/", "http://h/", True),
        ("http://h/", "http://h:8080/", False),
        ("http://h/", "http://h.evil/", False),
        ("http://h/", "http://h@evil/", False),
        ("http://h/", "http://h:x/", False),
    ],
)
def test_origins(url: str, other: str, expected: bool) -> None:
    assert is_same_origin(url, other) is expected


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("7", 7, 7),
        ("\u00b2", 0, 0),
        ("soon", 0, 0),
        ("9" * 500, 1, float("inf")),
        (formatdate(0, usegmt=True), -float("inf"), 0),
    ],
)
def test_when_to_try_again(text: str, least: float, most: float) -> None:
    assert least <= connection._seconds(text) <= most


def test_a_date_to_try_again() -> None:
    soon = formatdate(time.time() + 1000, usegmt=True)
    assert 1 <= connection._seconds(soon) <= 1000


def test_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    class Stop:
        def wait(self, seconds: float) -> bool:
            waited.append(seconds)
            return False

    Pause(Stop()).wait("100000")  # type: ignore[arg-type]  # all of an event that it uses
    assert waited == [30.0]


class Talker(LocalServer):
    """Leads to `target` with a body that never ends; gives a body drop by drop otherwise."""

    target = ""

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        request.send_response(307 if self.target else 200)
        if self.target:
            request.send_header("Location", self.target)
        request.send_header("Content-Length", str(1 << 40))
        request.end_headers()
        request.close_connection = True
        try:
            while True:
                request.wfile.write(bytes(1 << 16) if self.target else b"x")
                if not self.target:
                    time.sleep(0.01)
        except OSError:
            return


@pytest.fixture
def talker() -> Iterator[Talker]:
    made = Talker()
    yield made
    made.close()


def test_bodies_that_nobody_wants_are_not_read(
    faulty: FaultyRegistry, talker: Talker, content: ContentStore
) -> None:
    faulty.blob(BLOB)
    talker.target = f"http://{faulty.host}{path('blobs', digest_of(BLOB))}"
    reference = parse_reference(f"{talker.host}/some/repo:tag")
    client().fetch(reference, descriptor(BLOB), content)
    assert content.read(Digest(digest_of(BLOB))) == BLOB


def test_a_body_that_comes_drop_by_drop(
    talker: Talker, content: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PACE_S", 0.05)
    monkeypatch.setattr(connection, "_LEAST_PACE", 1e6)
    reference = parse_reference(f"{talker.host}/some/repo:tag")
    with pytest.raises(RegistryError, match=f"connection to {talker.host} broke: no answer in"):
        client().fetch(reference, descriptor(BLOB), content)
    with pytest.raises(RegistryError, match=f"connection to {talker.host} broke: no answer in"):
        client().manifest(reference, Digest(digest_of(BLOB)))
    assert not content.abandoned()
    assert not list(content.digests())


def test_a_manifest_that_is_deep(faulty: FaultyRegistry, store_of_images: Worker) -> None:
    data = b"[" * 100_000
    faulty.manifests["tag"] = faulty.manifests[digest_of(data)] = "text/html", data
    resolver = ImageResolver(client(), store_of_images.content, store_of_images.images)
    with pytest.raises(CorruptError, match=f"{faulty.host}/some/repo:tag: its manifest is no JSON"):
        resolver.resolve(named(faulty), host_platform(), ResolveMode.PULL)


@pytest.fixture
def store_of_images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(tmp_path_factory.mktemp("images"), snapshotter="native")
    yield worker
    worker.close()
