"""Single blobs as sources: one file with the name, mode and time that are asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.servers import Fault, FaultyRegistry, digest_of

from torana.core import llb
from torana.core.errors import ToranaError
from torana.gateway.engines.engine import BuildRequest, ExportRequest
from torana.plugins.registry import connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings

DATA = b"some blob" * 1000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    made = Builds(tmp_path, RegistryAccess(RegistrySettings(), NoCredentials()))
    yield made
    made.close()


async def fetch(builds: Builds, identifier: str, **attrs: str) -> Path:
    """Give the folder with what the source gives."""
    out = builds.root / f"out{len(list(builds.root.glob('out*')))}"
    state = llb.source(identifier, {key.replace("_", "."): value for key, value in attrs.items()})
    request = BuildRequest(
        definition=state.marshal(),
        oci_layouts=builds.layouts,
        exports=[ExportRequest(type="local", dest=str(out))],
    )
    builds.events.clear()
    await builds.engine.build(request, builds)
    return out


async def test_a_blob_of_a_registry(faulty: FaultyRegistry, builds: Builds) -> None:
    blob = faulty.blob(DATA)
    identifier = f"docker-image+blob://{faulty.host}/some/repo@{blob['digest']}"
    out = await fetch(builds, identifier)
    (file,) = out.iterdir()
    assert file.name == digest_of(DATA).partition(":")[2]
    assert file.read_bytes() == DATA
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_mtime == 0
    asked = sum(faulty.requests.values())
    out = await fetch(builds, identifier, http_filename="dir/name", http_perm="0755")
    assert stat.S_IMODE((out / "name").stat().st_mode) == 0o755
    assert sum(faulty.requests.values()) == asked  # it is here
    await fetch(builds, identifier, http_filename="dir/name", http_perm="0755")
    assert builds.cached


@pytest.mark.parametrize("kind", ["wrong", "short", "long"])
async def test_blobs_that_are_others(faulty: FaultyRegistry, builds: Builds, kind: str) -> None:
    blob = faulty.blob(DATA)
    path = f"/v2/some/repo/blobs/{blob['digest']}"
    faulty.faults[path] = [Fault("", 0), *[Fault(kind, 100)] * 9]  # the first is the question
    with pytest.raises(ToranaError, match=f"{faulty.host}"):
        await fetch(builds, f"docker-image+blob://{faulty.host}/some/repo@{blob['digest']}")
    assert builds.worker.upkeep.check(is_verified=True) == []


async def test_mistakes(faulty: FaultyRegistry, builds: Builds) -> None:
    where = f"{faulty.host}/some/repo"
    missing = f"{where}@{digest_of(b'missing')}"
    with pytest.raises(ToranaError, match="not found"):
        await fetch(builds, f"docker-image+blob://{missing}")
    with pytest.raises(ToranaError, match="has no digest"):
        await fetch(builds, f"docker-image+blob://{where}:tag")
    with pytest.raises(ToranaError, match=r"http\.perm is no number"):
        await fetch(builds, f"docker-image+blob://{missing}", http_perm="rw")
    builds.layouts["store"] = builds.root
    with pytest.raises(ToranaError, match="requires store id"):
        await fetch(builds, f"oci-layout+blob://{missing}")


async def test_a_blob_of_a_layout(builds: Builds) -> None:
    made = await builds.layout("FROM scratch\nCOPY Dockerfile /\n", {})
    builds.layouts["store"] = made.folder
    layer = made.document(made.entries[0])["layers"][0]
    identifier = f"oci-layout+blob://name@{layer['digest']}"
    uid = str(os.geteuid())
    out = await fetch(builds, identifier, oci_store="store", http_filename="l", http_uid=uid)
    assert (out / "l").read_bytes() == made.blob(layer)
    with pytest.raises(ToranaError, match="not found"):
        await fetch(builds, f"oci-layout+blob://name@{digest_of(b'missing')}", oci_store="store")
