"""Reading of exporter attributes.

Spec: exporters reference, section 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torana.core.content.compression import Compression, parse_compression
from torana.core.errors import UserError
from torana.core.oci.reference import parse_reference
from torana.plugins.booleans import parse_boolean

_EMPTY_IS_TRUE: Final = frozenset(
    {
        "push",
        "push-by-digest",
        "registry.insecure",
        "unpack",
        "store",
        "danging-name-empty-only",
        "name-canonical",
        "force-compression",
        "tar",
    }
)


def flag(attrs: Mapping[str, str], key: str, default: bool) -> bool:
    """Read a boolean.

    Raises:
        UserError: it is none.
    """
    text = attrs.get(key)
    if text is None:
        return default
    found = True if not text and key in _EMPTY_IS_TRUE else parse_boolean(text)
    if found is not None:
        return found
    raise UserError(f"non-bool value specified for {key}: `{text}`")


def epoch(attrs: Mapping[str, str], found: int | None) -> int | None:
    """Give SOURCE_DATE_EPOCH in seconds: the attribute, else what the frontend found.

    Raises:
        UserError: the attribute is no number.
    """
    text = attrs.get("source-date-epoch")
    if text is None:
        return found
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UserError(f"invalid source-date-epoch: {text}") from None


def compression(attrs: Mapping[str, str]) -> Compression:
    """Read `compression` and `compression-level`."""
    return parse_compression(attrs.get("compression") or "gzip", attrs.get("compression-level"))


def is_named_later(attrs: Mapping[str, str]) -> bool:
    """Say whether the name is left to the frontend."""
    return attrs.get("name", "").strip() == "*"


def names(attrs: Mapping[str, str], default: str) -> list[str]:
    """Give the names as written, `name` split at commas; `*` means `default`."""
    text = default if is_named_later(attrs) else attrs.get("name", "")
    return [name.strip() for name in text.split(",") if name.strip()]


def normalized_names(attrs: Mapping[str, str], default: str) -> list[str]:
    """Give full names with tag.

    Raises:
        InvalidReferenceError: a name is malformed.
    """
    return [str(parse_reference(name).with_default_tag()) for name in names(attrs, default)]
