"""What a daemon says of itself."""

from __future__ import annotations

from torana.core.oci.platform import parse_platform
from torana.gateway.daemon.identity import _AMD64_LEVELS, Identity, _also_native


def native(platform: str, *levels: str) -> list[str]:
    flags = frozenset().union(*(_AMD64_LEVELS[level] for level in levels))
    return [each.format() for each in _also_native(parse_platform(platform), flags)]


def test_levels_are_announced_up_to_the_first_that_is_missing() -> None:
    assert native("linux/amd64") == ["linux/386"]
    assert native("linux/amd64", "v2", "v3") == ["linux/amd64/v2", "linux/amd64/v3", "linux/386"]
    assert native("linux/amd64", "v2", "v4") == ["linux/amd64/v2", "linux/386"]
    assert native("linux/arm64", "v2") == []


def test_fields_for_filters() -> None:
    identity = Identity(id="w", labels={"a.b": "c"})
    assert identity.field("id") == "w"
    assert identity.field("labels.a.b") == "c" and identity.field("labels.x") is None
