"""Images as sources: what is asked for, what is fetched, and when."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from tests.integration.registry.builds import Builds, layer_of
from tests.integration.registry.servers import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    Fault,
    FaultyRegistry,
    digest_of,
)

from torana.core.errors import CorruptError, NotFoundError, ToranaError, UnsupportedError, UserError
from torana.core.oci.platform import host_platform
from torana.core.snapshots import namespace
from torana.plugins.registry import connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.errors import RegistryContentError
from torana.plugins.registry.settings import RegistrySettings

BASE = layer_of({"etc/name": "base", "gone": "x", "kept": "k"})
TOP = layer_of({".wh.gone": "", "etc/top": "top"})
ARCHITECTURE = host_platform().architecture


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture(scope="module", autouse=True)
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


@pytest.fixture(params=["native", pytest.param("overlay", marks=pytest.mark.needs("root"))])
def builds(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Builds]:
    made = Builds(tmp_path, RegistryAccess(RegistrySettings(), NoCredentials()), request.param)
    yield made
    made.close()


def blobs(registry: FaultyRegistry) -> list[str]:
    """Give the digests of blobs that were asked for, configs left out."""
    found = [key.rpartition("/")[2] for key in registry.requests if "/blobs/" in key]
    return sorted(digest for digest in found if not registry.blobs[digest].startswith(b"{"))


def from_(registry: FaultyRegistry, suffix: str = ":tag", rest: str = "") -> str:
    return f"FROM {registry.host}/some/repo{suffix}\n{rest}"


async def test_files_of_an_image(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.image("tag", [BASE, TOP], architecture=ARCHITECTURE)
    found = await builds.files(from_(faulty))
    assert found == {"etc/name": "base", "etc/top": "top", "kept": "k"}
    for layer in (BASE, TOP):
        assert {digest_of(layer), f"extracting {digest_of(layer)}"} <= builds.statuses


async def test_nothing_is_fetched_before_it_is_needed(
    faulty: FaultyRegistry, builds: Builds
) -> None:
    faulty.image("tag", [BASE, TOP], architecture=ARCHITECTURE)
    text = from_(faulty, rest="COPY --from=other / /\n")
    text = f"FROM scratch AS other\nCOPY Dockerfile /\n{text}"
    await builds.build(from_(faulty))
    assert blobs(faulty) == []
    await builds.build(text)
    assert blobs(faulty) == sorted(map(digest_of, (BASE, TOP)))
    faulty.requests.clear()
    builds.worker.content.delete(builds_digest(BASE))
    await builds.build(text)
    assert blobs(faulty) == []
    assert "[stage-1 2/2] COPY --from=other / /" in builds.cached


def builds_digest(data: bytes):  # type: ignore[no-untyped-def]  # shorter than its import
    from torana.core.oci.digest import Digest

    return Digest(digest_of(data))


async def test_exports_keep_the_layers(faulty: FaultyRegistry, builds: Builds) -> None:
    packed = [gzip.compress(layer, mtime=0) for layer in (BASE, TOP)]
    faulty.image("tag", packed, [digest_of(BASE), digest_of(TOP)], architecture=ARCHITECTURE)
    manifest = json.loads(faulty.manifests["tag"][1])
    for layer in manifest["layers"]:
        layer["mediaType"] = LAYER + "+gzip"
    faulty.manifest("tag", manifest)
    linked = "FROM scratch AS x\nCOPY Dockerfile /\n" + from_(
        faulty, rest="COPY --link --from=x / /\n"
    )
    image = await builds.image(linked)
    layers = image["manifest"]["layers"]
    assert layers[:2] == manifest["layers"]
    assert len(layers) == 3
    assert not any(status.startswith("extracting") for status in builds.statuses)
    assert image["config"]["rootfs"]["diff_ids"][:2] == [digest_of(BASE), digest_of(TOP)]
    again = await builds.image(from_(faulty, rest="RUN_IS_NOT_NEEDED" and ""))
    assert again["manifest"]["layers"] == manifest["layers"]
    on_top = await builds.image(from_(faulty, rest="COPY Dockerfile /\n"))
    assert on_top["manifest"]["layers"][:2] == manifest["layers"]
    assert await builds.files(linked)


async def test_platforms(faulty: FaultyRegistry, builds: Builds) -> None:
    entries = []
    for name in ("amd64", "arm64"):
        entry = faulty.image(name, [layer_of({"arch": name})], architecture=name)
        entries.append({**entry, "platform": {"os": "linux", "architecture": name}})
    attestation = {"os": "unknown", "architecture": "unknown"}
    entries.append({**entries[0], "platform": attestation})
    document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    faulty.manifest("tag", document)
    for name in ("arm64", "amd64"):
        found = await builds.files(from_(faulty), platform=f"linux/{name}")
        assert found == {"arch": name}
    with pytest.raises(NotFoundError, match="no match for platform") as caught:
        await builds.build(from_(faulty), platform="linux/s390x")
    assert caught.value.hint == "it is made for linux/amd64, linux/arm64"


async def test_two_tags_of_one_image_are_one(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.image("tag", [BASE], architecture=ARCHITECTURE)
    rest = "COPY Dockerfile.x /\n"
    (builds.root / "context").mkdir()
    (builds.root / "context/Dockerfile.x").write_text("x")
    await builds.build(from_(faulty, rest=rest))
    faulty.image("other", [BASE], architecture=ARCHITECTURE, author="somebody")
    await builds.build(from_(faulty, ":other", rest=rest))
    assert "[2/2] COPY Dockerfile.x /" in builds.cached


async def test_pinned_images_need_no_registry(faulty: FaultyRegistry, builds: Builds) -> None:
    image = faulty.image("tag", [BASE], architecture=ARCHITECTURE)
    pinned = from_(faulty, f"@{image['digest']}")
    expected = await builds.files(pinned)
    faulty.requests.clear()
    assert await builds.files(pinned + "LABEL a=b\n") == expected
    assert await builds.files(pinned + "COPY Dockerfile /\n") != expected
    assert faulty.requests.total() == 0


async def test_a_tag_that_moves_is_seen(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.image("tag", [BASE], architecture=ARCHITECTURE)
    await builds.files(from_(faulty))
    faulty.image("tag", [layer_of({"new": "new"})], architecture=ARCHITECTURE)
    assert await builds.files(from_(faulty)) == {"new": "new"}


async def test_a_wrong_checksum(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.image("tag", [BASE], architecture=ARCHITECTURE)
    wrong = f"@{digest_of(b'other')}"
    with pytest.raises(NotFoundError, match=f"{faulty.host}/some/repo"):
        await builds.build(from_(faulty, wrong))


# Failures


@pytest.mark.parametrize("kind", ["wrong", "short"])
async def test_wrong_layers_leave_nothing(
    faulty: FaultyRegistry, builds: Builds, kind: str
) -> None:
    faulty.image("tag", [BASE, TOP], architecture=ARCHITECTURE)
    where = f"/v2/some/repo/blobs/{digest_of(TOP)}"
    faulty.faults[where] = [Fault(kind, 100)] * 9
    with pytest.raises(RegistryContentError, match=f"{faulty.host}/some/repo"):
        await builds.files(from_(faulty))
    assert list(builds.worker.content.ingest.iterdir()) == []
    assert not builds.worker.content.exists(builds_digest(TOP))
    faulty.faults.clear()
    assert "etc/top" in await builds.files(from_(faulty))


async def test_a_layer_with_another_diff_id(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.image("tag", [BASE], [digest_of(TOP)], architecture=ARCHITECTURE)
    with pytest.raises(CorruptError, match="diff id"):
        await builds.files(from_(faulty))
    assert builds.worker.refs.records.all() == []


async def test_layers_that_break(faulty: FaultyRegistry, builds: Builds) -> None:
    text = "many" * 100_000
    big = layer_of({"big": text})
    faulty.image("tag", [big], architecture=ARCHITECTURE)
    faulty.faults[f"/v2/some/repo/blobs/{digest_of(big)}"] = [
        Fault("drop", 200_000),
        Fault("status", 500),
        Fault("status", 429, {"Retry-After": "0"}),
        Fault("hang-up"),
    ]
    assert await builds.files(from_(faulty)) == {"big": text}


async def test_what_is_no_image(faulty: FaultyRegistry, builds: Builds) -> None:
    faulty.manifest("old", {"schemaVersion": 1, "mediaType": "x", "fsLayers": []})
    with pytest.raises(UnsupportedError, match="no image manifest"):
        await builds.build(from_(faulty, ":old"))
    chart = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": faulty.blob(b"{}", CONFIG),
        "layers": [faulty.blob(b"chart", "application/x-chart")],
    }
    faulty.manifest("chart", chart)
    with pytest.raises(UnsupportedError, match="application/x-chart"):
        await builds.build(from_(faulty, ":chart"))
    faulty.image("odd", [BASE], [digest_of(BASE), digest_of(TOP)], architecture=ARCHITECTURE)
    with pytest.raises(ToranaError, match="manifest has 1 layers, config 2"):
        await builds.files(from_(faulty, ":odd"))


async def test_errors_point_at_the_line(faulty: FaultyRegistry, builds: Builds) -> None:
    with pytest.raises(NotFoundError, match=f"{faulty.host}/some/repo:tag: not found") as caught:
        await builds.build(f"# a comment\n{from_(faulty)}")
    assert caught.value.sources
    with pytest.raises(UserError, match="invalid reference format"):
        await builds.build("FROM localhost:5000/UPPER\n")


async def test_cancelling_ends_a_download(
    faulty: FaultyRegistry, builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 60.0)
    faulty.image("tag", [BASE], architecture=ARCHITECTURE)
    faulty.faults[f"/v2/some/repo/blobs/{digest_of(BASE)}"] = [Fault("status", 503)] * 99
    work = asyncio.create_task(builds.files(from_(faulty)))
    while not blobs(faulty):
        await asyncio.sleep(0.01)
    work.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await work
    assert list(builds.worker.content.ingest.iterdir()) == []


# Forms of layers


def _estargz(members: dict[str, str]) -> tuple[bytes, bytes]:
    """Give a layer in many gzip members, with a table of contents at its end, and the plain tar."""
    table = json.dumps({"version": 1, "entries": [{"name": name} for name in members]})
    plain = layer_of({**members, ".no.prefetch.landmark": "\x0f", "stargz.index.json": table})
    packed = b"".join(
        gzip.compress(plain[start : start + 512]) for start in range(0, len(plain), 512)
    )
    # Its end is an empty member, whose extra field says where the table is.
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + b"\x1a\0SG\x16\0%016xSTARGZ" % 512
    return packed + footer + b"\x01\0\0\xff\xff" + bytes(8), plain


def _chunked_zstd(members: dict[str, str]) -> tuple[bytes, bytes]:
    """Give a layer in many zstd frames with something between them that readers skip."""
    plain = layer_of(members)
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
    compressor = zstandard.ZstdCompressor()
    packed = b"".join(
        compressor.compress(plain[start : start + 700]) + skipped
        for start in range(0, len(plain), 700)
    )
    return packed, plain


@pytest.mark.parametrize(
    ("packed", "suffix"), [(_estargz, "+gzip"), (_chunked_zstd, "+zstd")], ids=["estargz", "zstd"]
)
async def test_layers_that_can_be_read_in_part(
    faulty: FaultyRegistry,
    builds: Builds,
    packed: Callable[[dict[str, str]], tuple[bytes, bytes]],
    suffix: str,
) -> None:
    blob, plain = packed({"etc/name": "some" * 1000, "etc/other": "o"})
    config = {
        "architecture": ARCHITECTURE,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(plain)]},
    }
    notes = {"containerd.io/snapshot/stargz/toc.digest": digest_of(b"x")}
    faulty.manifest(
        "tag",
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": faulty.blob(json.dumps(config).encode(), CONFIG),
            "layers": [{**faulty.blob(blob, LAYER + suffix), "annotations": notes}],
        },
    )
    found = await builds.files(from_(faulty))
    assert (found["etc/name"], found["etc/other"]) == ("some" * 1000, "o")
    image = await builds.image(from_(faulty, rest="COPY Dockerfile /\n"))
    kept = image["manifest"]["layers"][0]
    assert (kept["digest"], kept["annotations"]) == (digest_of(blob), notes)
