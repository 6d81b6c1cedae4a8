"""Pushing: what is sent, what is not, and what a broken connection costs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.servers import Fault, FaultyRegistry, RealRegistry, digest_of

from torana.core.content.store import ContentStore
from torana.core.errors import UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.reference import parse_reference
from torana.gateway.engines.engine import ExportRequest
from torana.plugins.exporters.pushing import PushError
from torana.plugins.registry import access, connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.push import Pusher
from torana.plugins.registry.settings import RegistrySettings

BLOB = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def own_access(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistryAccess]:
    made = RegistryAccess(RegistrySettings(), NoCredentials())
    monkeypatch.setattr(access, "_default", made)
    yield made
    made.pools.close()


@pytest.fixture
def builds(tmp_path: Path, own_access: RegistryAccess) -> Iterator[Builds]:
    made = Builds(tmp_path, own_access)
    yield made
    made.close()


def test_an_upload_that_breaks_begins_again(
    faulty: FaultyRegistry, content: ContentStore, own_access: RegistryAccess
) -> None:
    digest = content.add(BLOB)
    blob = Descriptor(media_type="x", digest=digest, size=len(BLOB))
    base = "/v2/some/repo/blobs/uploads/session"
    faulty.faults = {f"{base}0": [Fault("drop", 300_000)], f"{base}1": [Fault("drop", 0)]}
    pusher = Pusher(own_access, parse_reference(f"{faulty.host}/some/repo:tag"), content)
    pusher.blob(blob)
    assert faulty.blobs[digest] == BLOB
    assert len(faulty.uploads) == 3
    pusher.blob(blob)
    assert len(faulty.uploads) == 3  # it is there


def exported(name: str, **attrs: str) -> ExportRequest:
    return ExportRequest(type="image", attrs={"name": name, "push": "true", **attrs})


async def test_a_push_that_is_refused(faulty: FaultyRegistry, builds: Builds) -> None:
    text = "FROM scratch\nCOPY Dockerfile /\n"
    faulty.faults["/v2/some/repo/manifests/tag"] = [Fault("status", 418)]
    name = f"{faulty.host}/some/repo:tag"
    with pytest.raises(PushError, match=f"failed to push {name}: .* answers 418"):
        await builds.build(text, exported(name))
    assert "tag" not in faulty.manifests
    await builds.build(text, exported(name))
    assert "tag" in faulty.manifests
    with pytest.raises(UserError, match="can't push tagged ref"):
        await builds.build(text, exported(name, **{"push-by-digest": "true"}))
    with pytest.raises(UserError, match="no name to push to"):
        await builds.build(text, exported(""))


async def test_pushing_by_digest(faulty: FaultyRegistry, builds: Builds) -> None:
    name = f"{faulty.host}/some/repo"
    await builds.build(
        "FROM scratch\nCOPY Dockerfile /\n", exported(name, **{"push-by-digest": ""})
    )
    ((digest, (_, data)),) = faulty.manifests.items()
    assert digest == digest_of(data)


@pytest.mark.needs("docker-registry", "skopeo")
async def test_a_real_registry(builds: Builds, start_registry: Callable[..., RealRegistry]) -> None:
    registry = start_registry()
    name = f"{registry.host}/team/app"
    await builds.build("FROM scratch\nCOPY Dockerfile /\nENV A=b\n", exported(f"{name}:1"))
    text = f"FROM {name}:1\nCOPY Dockerfile /more/\n"
    await builds.build(text, exported(f"{name}:2,{name}:3"), platform="linux/amd64,linux/arm64")
    done = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}:3"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    index = json.loads(done.stdout)
    assert [m["platform"]["architecture"] for m in index["manifests"]] == ["amd64", "arm64"]
    assert sorted(await builds.files(f"FROM {name}:2\n", platform="linux/arm64")) == [
        "Dockerfile",
        "more/Dockerfile",
    ]
    assert Digest.parse(digest_of(done.stdout))
