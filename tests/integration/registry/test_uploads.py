"""How blobs get into a repository: mounted, in one piece, in chunks that go on where one broke."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.integration.registry.servers import MANIFEST, Fault, FaultyRegistry

from torana.core.content.store import ContentStore
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference, parse_reference
from torana.plugins.registry import connection, upload
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.client import RegistryClient
from torana.plugins.registry.credentials import Credential, Credentials, NoCredentials
from torana.plugins.registry.errors import RegistryError
from torana.plugins.registry.push import Pusher
from torana.plugins.registry.settings import RegistrySettings

BLOB = bytes(range(256)) * 4096  # 1 MiB
BASE = "/v2/some/repo/blobs/uploads/session"


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(upload, "_CHUNK", 400_000)


@pytest.fixture
def access() -> Iterator[RegistryAccess]:
    made = RegistryAccess(RegistrySettings(), NoCredentials())
    yield made
    made.pools.close()


@pytest.fixture
def reference(faulty: FaultyRegistry) -> ImageReference:
    return parse_reference(f"{faulty.host}/some/repo:tag")


@pytest.fixture
def blob(content: ContentStore) -> Descriptor:
    return Descriptor(media_type="x", digest=content.add(BLOB), size=len(BLOB))


@pytest.fixture
def pusher(access: RegistryAccess, reference: ImageReference, content: ContentStore) -> Pusher:
    return Pusher(access, reference, content)


def test_a_body_that_is_too_large_goes_in_chunks(
    faulty: FaultyRegistry, pusher: Pusher, blob: Descriptor
) -> None:
    faulty.largest = 500_000
    seen: list[int] = []
    pusher.blob(blob, seen.append)
    assert faulty.blobs[blob.digest] == BLOB
    assert faulty.pieces == ["0-399999", "400000-799999", "800000-1048575"]
    assert seen[-1] == len(BLOB)


def test_chunks_go_on_where_they_broke(
    faulty: FaultyRegistry, pusher: Pusher, blob: Descriptor
) -> None:
    faulty.faults = {
        f"{BASE}0": [Fault("drop", 1000)],
        f"{BASE}1": [Fault("drop", 1000)],
        f"{BASE}2": [Fault("drop", 300_000), Fault("status", 503), Fault("status", 500)],
    }
    pusher.blob(blob)
    assert faulty.blobs[blob.digest] == BLOB
    assert faulty.pieces[0].startswith("300000-")


def test_a_session_that_is_lost_begins_anew(
    faulty: FaultyRegistry, pusher: Pusher, blob: Descriptor
) -> None:
    faulty.largest = 500_000
    faulty.faults = {f"{BASE}1": [Fault("hang-up"), Fault("status", 404)]}
    pusher.blob(blob)
    assert faulty.blobs[blob.digest] == BLOB
    assert len(faulty.uploads) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_registry_is_asked_again(
    faulty: FaultyRegistry, pusher: Pusher, blob: Descriptor, status: int
) -> None:
    faulty.faults = {f"{BASE}0": [Fault("status", status)]}
    pusher.blob(blob)
    assert faulty.blobs[blob.digest] == BLOB


def test_a_registry_that_never_takes_it(
    faulty: FaultyRegistry, pusher: Pusher, blob: Descriptor, reference: ImageReference
) -> None:
    faulty.faults = {f"{BASE}{number}": [Fault("status", 500)] * 9 for number in range(9)}
    with pytest.raises(RegistryError, match=f"{reference.name}@{blob.digest}.* answers 500"):
        pusher.blob(blob)
    faulty.faults = {f"{BASE}{number}": [Fault("hang-up")] * 99 for number in range(20)}
    with pytest.raises(RegistryError, match=f"{faulty.host}.* remote end closed"):
        pusher.blob(blob)
    assert blob.digest not in faulty.blobs


def test_a_small_blob_is_not_cut(
    faulty: FaultyRegistry, pusher: Pusher, content: ContentStore
) -> None:
    small = Descriptor(media_type="x", digest=content.add(b"small"), size=5)
    faulty.faults = {f"{BASE}{number}": [Fault("drop", 2)] for number in range(3)}
    pusher.blob(small)
    assert faulty.blobs[small.digest] == b"small"
    assert not faulty.pieces


@pytest.mark.parametrize("has_mounts", [True, False])
def test_blobs_of_other_repositories(
    faulty: FaultyRegistry, pusher: Pusher, content: ContentStore, has_mounts: bool
) -> None:
    faulty.has_mounts = has_mounts
    faulty.blobs[Digest.of(BLOB)] = BLOB
    faulty.faults[f"/v2/some/repo/blobs/{Digest.of(BLOB)}"] = [Fault("status", 404)]
    source = {f"containerd.io/distribution.source.{faulty.host}": "some/repo,library/base"}
    digest = content.add(BLOB) if not has_mounts else Digest.of(BLOB)  # it need not be here
    pusher.blob(Descriptor(media_type="x", digest=digest, size=len(BLOB), annotations=source))
    assert faulty.mounts == ([(digest, "library/base")] if has_mounts else [])
    assert len(faulty.uploads) == (0 if has_mounts else 1)


def test_mounting_asks_for_both_repositories(
    faulty: FaultyRegistry, reference: ImageReference, content: ContentStore
) -> None:
    class Known(Credentials):
        def get(self, host: str) -> Credential | None:
            return Credential(user="ann", password="secret")

    faulty.users = {"ann": "Basic YW5uOnNlY3JldA=="}
    faulty.token_service = "registry"
    faulty.blobs[Digest.of(BLOB)] = BLOB
    faulty.faults[f"/v2/some/repo/blobs/{Digest.of(BLOB)}"] = [Fault("status", 404)]
    access = RegistryAccess(RegistrySettings(), Known())
    source = {f"containerd.io/distribution.source.{faulty.host}": "library/base"}
    digest = Digest.of(BLOB)
    Pusher(access, reference, content).blob(
        Descriptor(media_type="x", digest=digest, size=len(BLOB), annotations=source)
    )
    access.pools.close()
    assert faulty.mounts == [(digest, "library/base")]
    assert "repository:library/base:pull" in faulty.scopes[-1]
    assert "repository:some/repo:pull,push" in faulty.scopes[-1]


@pytest.mark.parametrize("has_referrers", [True, False])
def test_referrers(
    faulty: FaultyRegistry,
    pusher: Pusher,
    access: RegistryAccess,
    content: ContentStore,
    reference: ImageReference,
    has_referrers: bool,
) -> None:
    faulty.has_referrers = has_referrers
    subject = Digest.of(b"subject")
    pushed = []
    for kind in ("text/signature", "text/note"):
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": subject,
                       "size": 2},
            "layers": [],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": 7},
        }  # fmt: skip
        data = json.dumps(document).encode()
        manifest = Descriptor(media_type=MANIFEST, digest=content.add(data), size=len(data))
        for _ in range(2):
            pusher.manifest(manifest, manifest.digest)
        pushed.append(manifest.digest)
    client = RegistryClient(access)
    assert [each.digest for each in client.referrers(reference, subject)] == pushed
    (note,) = client.referrers(reference, subject, "text/note")
    assert (note.digest, note.artifact_type) == (pushed[1], "text/note")
    assert client.referrers(reference, Digest.of(b"other")) == []
    assert (f"sha256-{subject.encoded}" in faulty.manifests) is not has_referrers
