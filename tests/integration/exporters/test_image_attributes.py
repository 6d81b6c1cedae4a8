"""What the attributes of image exporters do to an image."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from tests.integration.registry.builds import Builds, layer_of
from tests.integration.registry.servers import Fault, FaultyRegistry, digest_of

from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.gateway.engines.engine import ExportRequest

TEXT = "FROM scratch\nCOPY Dockerfile /\n"
BOTH = "linux/amd64,linux/arm64"
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


async def test_annotations_at_all_levels(builds: Builds) -> None:
    made = await builds.layout(
        TEXT,
        {
            "annotation.all": "1",
            "annotation[linux/arm64].all": "2",
            "annotation-manifest[linux/arm64].one": "3",
            "annotation-manifest-descriptor.named": "4",
            "annotation-manifest-descriptor[linux/amd64].named": "5",
            "annotation-index.top": "6",
            "annotation-index-descriptor.entry": "7",
        },
        platform=BOTH,
    )
    (entry,) = made.entries
    assert entry["annotations"].pop("org.opencontainers.image.created")
    assert entry["annotations"] == {"entry": "7"}
    index = made.document(entry)
    assert index["annotations"] == {"top": "6"}
    amd, arm = index["manifests"]
    assert (amd["annotations"], arm["annotations"]) == ({"named": "5"}, {"named": "4"})
    assert made.document(amd)["annotations"] == {"all": "1"}
    assert made.document(arm)["annotations"] == {"all": "2", "one": "3"}


async def test_annotations_of_a_single_manifest(builds: Builds) -> None:
    made = await builds.layout(TEXT, {"annotation.a": "1", "annotation-manifest-descriptor.b": "2"})
    (entry,) = made.entries
    assert entry["annotations"]["b"] == "2"
    assert made.document(entry)["annotations"] == {"a": "1"}


@pytest.mark.parametrize(
    ("attrs", "platform", "message"),
    [
        ({"annotation-index.a": "1"}, "", "index annotations not supported for single platform"),
        ({"annotation[linux/s390x].a": "1"}, BOTH, "no platform linux/s390x found in source"),
        ({"annotation-index.a": "1", "oci-mediatypes": "false"}, BOTH, "cannot export annotations"),
        ({"annotation-layer.a": "1"}, "", "unrecognized annotation type layer"),
        ({"annotation-index[linux/amd64].a": "1"}, BOTH, "of an index have no platform"),
        ({"rewrite-timestamp": "true", "unpack": "true"}, "", 'conflicts with "unpack"'),
        ({"rewrite-timestamp": ""}, "", "non-bool value specified for rewrite-timestamp"),
        ({"compression": "lzma"}, "", "unsupported layer compression type"),
        (
            {"compression": "estargz", "oci-mediatypes": "false"},
            "",
            'compression=estargz" conflicts with "oci-mediatypes=false"',
        ),
    ],
)
async def test_attributes_that_do_not_fit(
    builds: Builds, attrs: dict[str, str], platform: str, message: str
) -> None:
    options = {"platform": platform} if platform else {}
    with pytest.raises(UserError, match=message):
        await builds.build(TEXT, ExportRequest(type="image", attrs=attrs), **options)
    assert builds.worker.images.all() == []


async def test_media_types(builds: Builds, registry: FaultyRegistry) -> None:
    foreign = registry.blob(layer_of({"f": "x"}), f"{OCI}layer.nondistributable.v1.tar")
    foreign |= {"urls": ["http://nowhere.invalid/x"], "annotations": {"kept": "yes"}}
    plain = registry.blob(layer_of({"g": "x"}))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [foreign["digest"], plain["digest"]]},
    }
    registry.manifest(
        "base",
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": registry.blob(json.dumps(config).encode(), f"{OCI}config.v1+json"),
            "layers": [foreign, plain],
        },
    )
    text = f"FROM {registry.host}/some/repo:base\nCOPY Dockerfile /\n"

    async def layers(**attrs: str) -> list[dict[str, Any]]:
        made = await builds.layout(text, attrs)
        manifest = made.document(made.entries[0])
        kind = f"{DOCKER}distribution.manifest.v2+json"
        if attrs.get("oci-mediatypes") != "false":
            kind = f"{OCI}manifest.v1+json"
        assert manifest["mediaType"] == kind
        found: list[dict[str, Any]] = manifest["layers"]
        return found

    first, second, third = await layers()
    assert first == {
        "mediaType": f"{OCI}layer.v1.tar",
        "digest": foreign["digest"],
        "size": foreign["size"],
        "annotations": {"kept": "yes"},
    }
    assert second == plain  # where it came from is not told
    assert third["mediaType"] == f"{OCI}layer.v1.tar+gzip"
    first, *_ = await layers(**{"prefer-nondist-layers": "true"})
    assert first["mediaType"] == foreign["mediaType"]
    assert first["urls"] == foreign["urls"]
    kinds = [layer["mediaType"] for layer in await layers(**{"oci-mediatypes": "false"})]
    assert kinds == [f"{DOCKER}image.rootfs.diff.tar{suffix}" for suffix in ("", "", ".gzip")]
    assert all("annotations" not in each for each in await layers(**{"oci-mediatypes": "false"}))


async def test_forced_compression_converts_the_base_too(
    builds: Builds, registry: FaultyRegistry
) -> None:
    plain = layer_of({"f": "x" * 5000})
    registry.image("base", [plain])
    text = f"FROM {registry.host}/some/repo:base\nCOPY Dockerfile /\n"

    async def layers(**attrs: str) -> tuple[list[dict[str, Any]], list[bytes], list[str]]:
        made = await builds.layout(text, attrs)
        manifest = made.document(made.entries[0])
        diff_ids = made.document(manifest["config"])["rootfs"]["diff_ids"]
        return manifest["layers"], [made.blob(each) for each in manifest["layers"]], diff_ids

    kept, _, diff_ids = await layers(compression="zstd")
    assert [each["mediaType"] for each in kept] == [f"{OCI}layer.v1.tar", f"{OCI}layer.v1.tar+zstd"]
    forced, blobs, same_ids = await layers(
        compression="zstd", **{"force-compression": "", "compression-level": "19"}
    )
    assert same_ids == diff_ids
    assert [each["mediaType"] for each in forced] == [f"{OCI}layer.v1.tar+zstd"] * 2
    unpacked = [zstandard.ZstdDecompressor().decompressobj().decompress(blob) for blob in blobs]
    assert [digest_of(data) for data in unpacked] == diff_ids
    gzipped, blobs, _ = await layers(**{"force-compression": "true"})
    assert gzip.decompress(blobs[0]) == plain
    assert [each["mediaType"] for each in gzipped] == [f"{OCI}layer.v1.tar+gzip"] * 2
    # Made once: asked for again, with the base unpacked by then, it is the same blob.
    await builds.files(text)
    assert (await layers(**{"force-compression": "true"}))[0] == gzipped


async def test_estargz(builds: Builds, registry: FaultyRegistry) -> None:
    toc = "containerd.io/snapshot/stargz/toc.digest"
    registry.image("base", [layer_of({"f": "x" * 5000})])
    text = f"FROM {registry.host}/some/repo:base\nCOPY Dockerfile /\n"

    async def layers(text: str, **attrs: str) -> list[dict[str, Any]]:
        made = await builds.layout(text, attrs)
        manifest = made.document(made.entries[0])
        diff_ids = made.document(manifest["config"])["rootfs"]["diff_ids"]
        plain = [gzip.decompress(made.blob(each)) for each in manifest["layers"]]
        assert [digest_of(data) for data in plain] == diff_ids
        for each in manifest["layers"]:
            assert each["mediaType"] == f"{OCI}layer.v1.tar+gzip"
        found: list[dict[str, Any]] = manifest["layers"]
        return found

    forced = {"force-compression": "true"}
    made = await layers(text, compression="estargz", **forced)
    assert all(toc in each["annotations"] for each in made)
    assert await layers(text, compression="estargz", **forced) == made
    assert not any("annotations" in each for each in await layers(text, **forced))
    # It is an image as any other: pulled, unpacked, built upon, and left as it is.
    name = f"{registry.host}/some/repo:lazy"
    attrs = {"name": name, "push": "true", "compression": "estargz", "store": "false"}
    await builds.build(text, ExportRequest(type="image", attrs=attrs | forced))
    other = f"FROM {name}\nCOPY Dockerfile /again\n"
    assert await builds.files(other) == {"f": "x" * 5000, "Dockerfile": text, "again": other}
    assert (await layers(other, compression="estargz", **forced))[:2] == made
    assert not any("annotations" in each for each in await layers(other, **forced))


async def test_names(builds: Builds) -> None:
    async def names(**attrs: str) -> set[str]:
        for each in builds.worker.images.all():
            builds.worker.images.remove(each.name)
        answer = await builds.build(TEXT, ExportRequest(type="image", attrs=attrs))
        digest = answer["containerimage.digest"]
        found = {each.name for each in builds.worker.images.all()}
        told = attrs.get("name", "").replace("*", "")
        assert answer.get("image.name", "").startswith(told)
        return {name.replace(digest, "DIGEST") for name in found}

    assert await names(name="a,host.io/b:1") == {"docker.io/library/a:latest", "host.io/b:1"}
    assert await names(name="a", store="false") == set()
    assert await names(name="host.io/b:1", **{"name-canonical": ""}) == {
        "host.io/b:1",
        "host.io/b:1@DIGEST",
    }
    assert await names(**{"dangling-name-prefix": "left"}) == {"left@DIGEST"}
    dangling = {"dangling-name-prefix": "left", "danging-name-empty-only": ""}
    assert await names(name="host.io/b:1", **dangling) == {"host.io/b:1"}
    assert await names(**dangling) == {"left@DIGEST"}
    assert await names(name="*") == set()


async def test_an_unpacked_image_is_at_hand(builds: Builds) -> None:
    attrs = {"name": "host.io/b:1", "unpack": "true", "compression": "zstd"}
    answer = await builds.build(TEXT, ExportRequest(type="image", attrs=attrs), platform=BOTH)
    (stored,) = builds.worker.images.all()
    assert stored.target.digest == answer["containerimage.digest"]
    unpacked = [
        record
        for record in builds.worker.refs.records.all()
        if record.description == f"unpacked from {stored.target.digest}"
    ]
    assert len(unpacked) == 1
    with builds.worker.refs.snapshots.mount(unpacked[0].id, readonly=True) as root:
        assert (root / "Dockerfile").read_text() == TEXT


async def test_times_are_rewritten_but_for_the_base(
    builds: Builds, registry: FaultyRegistry
) -> None:
    base, other = layer_of({"f": "x"}, mtime=2000), layer_of({"g": "x"}, mtime=2000)
    registry.image("base", [base])
    registry.image("other", [other])
    host = f"{registry.host}/some/repo"
    text = f"FROM {host}:base\nCOPY Dockerfile /\nCOPY --link --from={host}:other g /h\n"
    attrs = {"rewrite-timestamp": "true", "source-date-epoch": "1000"}
    made = await builds.layout(text, attrs)
    manifest = made.document(made.entries[0])
    assert manifest["layers"][0]["digest"] == digest_of(base)
    stamps = [each.get("annotations", {}) for each in manifest["layers"]]
    assert stamps == [{}] + [{"buildkit/rewritten-timestamp": "1000"}] * 2
    for layer in manifest["layers"][1:]:
        with tarfile.open(fileobj=io.BytesIO(made.blob(layer))) as archive:
            assert {member.mtime for member in archive} == {1000}
    config = made.document(manifest["config"])
    assert config["created"] == "1970-01-01T00:16:40Z"
    again = await builds.layout(text, attrs)
    assert again.entries == made.entries


async def test_several_exports_of_one_build(builds: Builds, tmp_path: Path) -> None:
    archive, folder, tar = tmp_path / "a.tar", tmp_path / "files", tmp_path / "b.tar"
    answer = await builds.build(
        TEXT,
        ExportRequest(type="oci", dest=str(archive)),
        ExportRequest(type="docker", dest=str(tmp_path / "d.tar")),
        ExportRequest(type="local", dest=str(folder)),
        ExportRequest(type="tar", dest=str(tar)),
        ExportRequest(type="image", attrs={"name": "host.io/b:1"}),
    )
    (stored,) = builds.worker.images.all()
    assert answer["containerimage.digest"] == stored.target.digest
    assert (folder / "Dockerfile").read_text() == TEXT
    with tarfile.open(tar) as files:
        assert files.getnames() == ["Dockerfile"]
    for path in (archive, tmp_path / "d.tar"):
        with tarfile.open(path) as layout:
            index = layout.extractfile("index.json")
            assert index is not None
            (entry,) = json.load(index)["manifests"]
            assert Digest.parse(entry["digest"]) == stored.target.digest


async def test_a_failed_export_keeps_the_push_from_happening(
    builds: Builds, registry: FaultyRegistry, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    name = f"{registry.host}/some/repo:tag"
    push = ExportRequest(type="image", attrs={"name": name, "push": "true"})
    with pytest.raises(UserError, match="is no folder"):
        await builds.build(TEXT, push, ExportRequest(type="local", dest=str(tmp_path / "file")))
    assert not registry.manifests
    await builds.build(TEXT, push, ExportRequest(type="local", dest=str(tmp_path / "out")))
    assert "tag" in registry.manifests


async def test_what_is_not_stored_is_fetched_only_for_a_registry_that_lacks_it(
    builds: Builds, registry: FaultyRegistry
) -> None:
    base = layer_of({"f": "x" * 1000})
    registry.image("base", [base])
    text = f"FROM {registry.host}/some/base:base\nCOPY --link Dockerfile /\n"
    where = f"GET /v2/some/base/blobs/{digest_of(base)}"

    def image(name: str = "", **attrs: str) -> ExportRequest:
        return ExportRequest(type="image", attrs={"name": name, "store": "false", **attrs})

    await builds.build(text, image())
    assert where not in registry.requests
    # Another repository of the same registry: it is mounted there.
    registry.faults[f"/v2/other/app/blobs/{digest_of(base)}"] = [Fault("status", 404)]
    await builds.build(text, image(f"{registry.host}/other/app:1", push="true"))
    assert where not in registry.requests
    assert registry.mounts == [(digest_of(base), "some/base")]
    assert "1" in registry.manifests
    # Another registry has no way to it but through here.
    other = FaultyRegistry()
    try:
        await builds.build(text, image(f"{other.host}/other/app:1", push="true"))
        assert registry.requests[where] == 1
        assert other.blobs[digest_of(base)] == base
        assert "1" in other.manifests
    finally:
        other.close()
