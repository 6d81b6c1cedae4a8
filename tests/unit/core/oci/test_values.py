"""Digests, references, platforms, descriptors and documents."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import CorruptError
from torana.core.oci import image
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.platform import (
    InvalidPlatformError,
    Platform,
    best_match,
    host_platform,
    matches,
    parse_platform,
)
from torana.core.oci.reference import InvalidReferenceError, parse_reference

HEX = "ab" * 32
DIGEST = Digest(f"sha256:{HEX}")


@given(st.binary(max_size=100))
def test_digests_of_bytes(data: bytes) -> None:
    digest = Digest.of(data)
    assert digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert Digest.parse(digest) == digest
    assert digest.algorithm == "sha256"
    assert digest.encoded == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256:", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"md5:{HEX[:32]}",
     f"sha256:{HEX[:-2]}/.", f"sha256:{HEX}\n", f"SHA256:{HEX}", f"sha512:{HEX}"],
)  # fmt: skip
def test_what_is_no_digest(text: str) -> None:
    with pytest.raises(InvalidDigestError):
        Digest.parse(text)


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("index.docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("localhost/a", "localhost/a", "localhost/a"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("Host/a", "Host/a", "Host/a"),
        ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"x.y/a:t@{DIGEST}", f"x.y/a:t@{DIGEST}", f"x.y/a:t@{DIGEST}"),
        ("a__b/c-d---e.f", "docker.io/a__b/c-d---e.f", "a__b/c-d---e.f"),
    ],
)
def test_references(text: str, full: str, short: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar() == short
    assert parse_reference(full) == parse_reference(short) == reference


@pytest.mark.parametrize(
    "text",
    ["", ":x", "a:", "a:b:c", "Upper", "a/B", "a//b", "/a", "a/", HEX, "a@sha256:12", "a:-t",
     "a@md5:" + "0" * 32, "-a", "a..b", "a___b", "a b", "a:" + "t" * 129, "x.y/" + "a" * 255,
     "a\n"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        parse_reference(text)


def test_default_tag() -> None:
    assert parse_reference("a").with_default_tag().tag == "latest"
    assert parse_reference("a:b").with_default_tag().tag == "b"
    assert parse_reference(f"a@{DIGEST}").with_default_tag().tag == ""
    assert str(parse_reference("a:b").with_digest(DIGEST)).endswith(f"a:b@{DIGEST}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm", "linux/arm"),
        ("linux/armhf", "linux/arm"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64", "linux/arm64"),
        ("macos/arm64", "darwin/arm64"),
        ("arm64", "linux/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_platforms(text: str, wanted: str) -> None:
    assert parse_platform(text).format() == wanted


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "li nux/amd64", "what", "linux/a\n"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidPlatformError):
        parse_platform(text)


def test_platform_with_version_and_features() -> None:
    platform = parse_platform("windows(10.0.17763+win32k)/amd64")
    assert (platform.os_version, platform.os_features) == ("10.0.17763", ("win32k",))
    assert parse_platform(platform.format_all()) == platform
    assert Platform.from_dict(platform.to_dict()) == platform
    assert list(platform.to_dict()) == ["architecture", "os", "os.version", "os.features"]


def test_matching() -> None:
    arm7 = parse_platform("linux/arm/v7")
    assert matches(arm7, parse_platform("linux/arm"))
    assert not matches(arm7, parse_platform("linux/arm/v6"))
    offered = [parse_platform(f"linux/{name}") for name in ("arm64", "arm/v5", "arm/v6")]
    assert best_match(arm7, offered) == 2
    assert best_match(parse_platform("linux/arm64"), offered) == 0
    assert best_match(parse_platform("linux/arm64"), offered[1:]) == 1
    assert best_match(parse_platform("linux/s390x"), offered) is None
    assert best_match(arm7, []) is None
    assert matches(host_platform(), host_platform().normalized())


def test_descriptors() -> None:
    raw = {
        "mediaType": "t",
        "digest": str(DIGEST),
        "size": 3,
        "urls": ["u"],
        "annotations": {"a": "1", "b": "2"},
        "data": "",
        "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"},
        "artifactType": "x",
    }
    found = Descriptor.from_dict(raw)
    assert json.dumps(found.to_dict()) == json.dumps(raw)
    with pytest.raises(InvalidDigestError):
        Descriptor.from_dict({**raw, "digest": "sha256:../../etc"})
    with pytest.raises(KeyError):
        Descriptor.from_dict({"mediaType": "t", "size": 3})


def test_documents() -> None:
    config = Descriptor(media_type=image.OCI_CONFIG, digest=DIGEST, size=2)
    layer = Descriptor(media_type=image.OCI_LAYER, digest=DIGEST, size=5)
    data = image.manifest(config, [layer], annotations={"b": "<&>", "a": "\u2028é"})
    assert data.startswith(b'{\n  "schemaVersion": 2,\n  "mediaType": "')
    assert b'"\\u003c\\u0026\\u003e"' in data
    assert "\\u2028é".encode() in data
    parsed = json.loads(data)
    assert list(parsed["annotations"]) == ["a", "b"]
    assert json.loads(image.index([config], oci=False))["mediaType"] == image.DOCKER_INDEX
    assert image.compact_json({"b": 1, "a": [None, "\x7f\x01"]}, sort=True) == (
        b'{"a":[null,"\x7f\\u0001"],"b":1}'
    )


def test_configs() -> None:
    assert image.parse_config(b'{"x": 1}') == {"x": 1}
    for data in (b"", b"[]", b"{", b"\xff"):
        with pytest.raises(CorruptError):
            image.parse_config(data)
    assert image.default_config(parse_platform("linux/amd64"))["rootfs"]["diff_ids"] == []
