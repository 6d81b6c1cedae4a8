"""The registry client against servers that break, stall, refuse and lie."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.registry.servers import Fault, FaultyRegistry, digest_of

from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference, parse_reference
from torana.plugins.registry import connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.client import RegistryClient
from torana.plugins.registry.credentials import Credential, Credentials, NoCredentials
from torana.plugins.registry.errors import (
    RegistryAuthError,
    RegistryContentError,
    RegistryError,
    RegistryNotFoundError,
    StoppedError,
)
from torana.plugins.registry.settings import HostSettings, RegistrySettings

BLOB = bytes(range(256)) * 4096


class One:
    """One credential for all hosts."""

    def __init__(self, credential: Credential) -> None:
        self.credential = credential

    def get(self, host: str) -> Credential | None:
        return self.credential


_opened: list[RegistryAccess] = []


@pytest.fixture(autouse=True)
def closed_connections() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().pools.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


def client(
    settings: RegistrySettings | None = None, credentials: Credentials | None = None
) -> RegistryClient:
    access = RegistryAccess(settings or RegistrySettings(), credentials or NoCredentials())
    _opened.append(access)
    return RegistryClient(access)


def named(registry: FaultyRegistry, suffix: str = ":tag") -> ImageReference:
    return parse_reference(f"{registry.host}/some/repo{suffix}")


def descriptor(data: bytes) -> Descriptor:
    return Descriptor(media_type="x", digest=Digest(digest_of(data)), size=len(data))


def path(kind: str, name: str) -> str:
    return f"/v2/some/repo/{kind}/{name}"


def test_a_tag_becomes_a_digest_with_one_request(faulty: FaultyRegistry) -> None:
    image = faulty.image("tag", [b"layer"])
    found = client().resolve(named(faulty))
    assert (found.digest, found.size) == (image["digest"], image["size"])
    assert dict(faulty.requests) == {f"HEAD {path('manifests', 'tag')}": 1}
    media_type, data = client().manifest(named(faulty), found.digest)
    assert media_type == image["mediaType"]
    assert digest_of(data) == image["digest"]


def test_what_is_not_there(faulty: FaultyRegistry, content: ContentStore) -> None:
    with pytest.raises(RegistryNotFoundError, match=rf"{faulty.host}/some/repo:tag: not found"):
        client().resolve(named(faulty))
    with pytest.raises(RegistryNotFoundError, match="some/repo@sha256"):
        client().fetch(named(faulty), descriptor(b"none"), content)
    assert sum(faulty.requests.values()) == 2  # no use in asking again


def test_a_broken_download_goes_on(faulty: FaultyRegistry, content: ContentStore) -> None:
    faulty.blob(BLOB)
    where = path("blobs", digest_of(BLOB))
    faulty.faults[where] = [
        Fault("drop", 300_000),
        Fault("hang-up"),
        Fault("status", 503),
        Fault("drop", 200_000),
    ]
    seen: list[int] = []
    client().fetch(named(faulty), descriptor(BLOB), content, seen.append)
    assert content.read(Digest(digest_of(BLOB))) == BLOB
    assert seen == sorted(seen)
    assert seen[-1] == len(BLOB)
    assert faulty.ranges  # never from the beginning again
    assert "bytes=0-" not in faulty.ranges
    client().fetch(named(faulty), descriptor(BLOB), content)
    assert faulty.requests[f"GET {where}"] == 5  # it is here, nobody is asked


def test_a_server_without_ranges(faulty: FaultyRegistry, content: ContentStore) -> None:
    faulty.has_ranges = False
    faulty.blob(BLOB)
    faulty.faults[path("blobs", digest_of(BLOB))] = [Fault("drop", 300_000)]
    client().fetch(named(faulty), descriptor(BLOB), content)
    assert content.read(Digest(digest_of(BLOB))) == BLOB


@pytest.mark.parametrize("kind", ["wrong", "short", "long"])
def test_wrong_blobs_are_not_kept(faulty: FaultyRegistry, content: ContentStore, kind: str) -> None:
    faulty.blob(BLOB)
    faulty.faults[path("blobs", digest_of(BLOB))] = [Fault(kind, 1000)] * 9
    with pytest.raises(RegistryContentError, match=faulty.host):
        client().fetch(named(faulty), descriptor(BLOB), content)
    assert list(content.digests()) == []
    assert list(content.ingest.iterdir()) == []


def test_a_download_that_never_comes_through(faulty: FaultyRegistry, content: ContentStore) -> None:
    faulty.blob(BLOB)
    faulty.faults[path("blobs", digest_of(BLOB))] = [Fault("drop", 0)] * 99
    with pytest.raises(RegistryError, match=rf"the connection to {faulty.host} broke"):
        client().fetch(named(faulty), descriptor(BLOB), content)
    assert faulty.requests.total() == connection.ATTEMPTS
    assert list(content.ingest.iterdir()) == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_statuses_that_pass(faulty: FaultyRegistry, status: int) -> None:
    image = faulty.image("tag", [])
    faulty.faults[path("manifests", "tag")] = [Fault("status", status, {"Retry-After": "0"})] * 3
    assert client().resolve(named(faulty)).digest == image["digest"]


def test_statuses_that_stay(faulty: FaultyRegistry) -> None:
    faulty.image("tag", [])
    where = path("manifests", "tag")
    faulty.faults[where] = [Fault("status", 429)] * 99
    with pytest.raises(RegistryError, match="too many requests"):
        client().resolve(named(faulty))
    assert faulty.requests.total() == connection.ATTEMPTS
    faulty.faults[where] = [Fault("status", 418)]
    with pytest.raises(RegistryError, match="answers 418"):
        client().resolve(named(faulty))
    assert faulty.requests.total() == connection.ATTEMPTS + 1


@pytest.mark.parametrize("kind", ["wrong", "short"])
def test_wrong_manifests(faulty: FaultyRegistry, kind: str) -> None:
    image = faulty.image("tag", [])
    faulty.faults[path("manifests", image["digest"])] = [Fault(kind, 10)]
    with pytest.raises(RegistryContentError, match="expected sha256"):
        client().manifest(named(faulty), Digest(image["digest"]))


def test_nobody_listens(content: ContentStore) -> None:
    reference = parse_reference("127.0.0.1:1/x:y")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1: connection refused"):
        client().resolve(reference)


def test_stopping_ends_the_pauses(faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 60.0)
    faulty.faults[path("manifests", "tag")] = [Fault("status", 503)] * 99
    stop = threading.Event()
    access = RegistryAccess(RegistrySettings(), NoCredentials())
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(StoppedError):
        RegistryClient(access, stop).resolve(named(faulty))


# Mirrors


def test_mirrors(faulty: FaultyRegistry, content: ContentStore) -> None:
    faulty.blob(BLOB)
    image = faulty.image("tag", [])
    origin = "origin.invalid"
    settings = RegistrySettings({origin: HostSettings(mirrors=("127.0.0.1:1", faulty.host))})
    reference = parse_reference(f"{origin}/some/repo:tag")
    assert client(settings).resolve(reference).digest == image["digest"]
    client(settings).fetch(reference, descriptor(BLOB), content)
    assert content.exists(Digest(digest_of(BLOB)))


def test_a_mirror_that_lies_is_passed_over(faulty: FaultyRegistry, content: ContentStore) -> None:
    liar = FaultyRegistry()
    try:
        for registry in (faulty, liar):
            registry.blob(BLOB)
        liar.faults[path("blobs", digest_of(BLOB))] = [Fault("wrong")] * 9
        settings = RegistrySettings({faulty.host: HostSettings(mirrors=(liar.host,))})
        client(settings).fetch(named(faulty), descriptor(BLOB), content)
    finally:
        liar.close()
    assert content.read(Digest(digest_of(BLOB))) == BLOB


# Authentication


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(user.encode()).decode()


@pytest.mark.parametrize("service", ["", "tokens"])
def test_credentials(faulty: FaultyRegistry, service: str, content: ContentStore) -> None:
    faulty.users["me"] = basic("me:secret")
    faulty.token_service = service
    faulty.image("tag", [b"layer"])
    with pytest.raises(RegistryAuthError, match=faulty.host):
        client().resolve(named(faulty))
    with pytest.raises(RegistryAuthError) as caught:
        client(credentials=One(Credential("me", "guess"))).resolve(named(faulty))
    assert "guess" not in str(caught.value)
    good = client(credentials=One(Credential("me", "secret")))
    good.resolve(named(faulty))
    before = faulty.requests.total()
    good.fetch(named(faulty), descriptor(b"layer"), content)
    assert faulty.requests.total() == before + 1  # the header is known by now


def test_identity_tokens(faulty: FaultyRegistry) -> None:
    faulty.users["me"] = basic("me:secret")
    faulty.token_service = "tokens"
    faulty.image("tag", [])
    client(credentials=One(Credential(identity_token="good"))).resolve(named(faulty))
    assert faulty.requests["POST /token"] == 1


def test_a_token_that_ended_is_fetched_anew(faulty: FaultyRegistry) -> None:
    faulty.users["me"] = basic("me:secret")
    faulty.token_service = "tokens"
    faulty.image("tag", [])
    good = client(credentials=One(Credential("me", "secret")))
    good.resolve(named(faulty))
    faulty.tokens.clear()
    faulty.tokens.append("other")
    good.resolve(named(faulty))


def test_credentials_do_not_follow_redirects(
    faulty: FaultyRegistry, content: ContentStore, tmp_path: Path
) -> None:
    elsewhere = FaultyRegistry()
    try:
        elsewhere.blob(BLOB)
        faulty.users["me"] = basic("me:secret")
        where = path("blobs", digest_of(BLOB))
        target = f"http://{elsewhere.host}{where}"
        good = client(credentials=One(Credential("me", "secret")))
        faulty.image("tag", [])
        good.resolve(named(faulty))
        faulty.faults[where] = [Fault("status", 307, {"Location": target})]
        good.fetch(named(faulty), descriptor(BLOB), content)
    finally:
        elsewhere.close()
    assert elsewhere.authorizations == [""]
