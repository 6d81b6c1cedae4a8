"""Reading of attributes that several backends have.

Spec: the cache reference, sections 4 and 8.
"""

from __future__ import annotations

from collections.abc import Mapping

from torana.core.cache.layers import LayerForm
from torana.core.content.compression import parse_compression
from torana.core.remotecache.manifest import ManifestForm
from torana.plugins.booleans import parse_boolean
from torana.plugins.cachebackend import CacheOptionError


def flag(attrs: Mapping[str, str], key: str, default: bool) -> bool:
    """Read a boolean.

    Raises:
        CacheOptionError: it is none.
    """
    if key not in attrs:
        return default
    found = parse_boolean(attrs[key])
    if found is None:
        raise CacheOptionError(f"failed to parse {key}: not a boolean: `{attrs[key]}`")
    return found


def layer_form(attrs: Mapping[str, str]) -> LayerForm:
    """Read `compression`, `compression-level` and `force-compression`."""
    is_forced = attrs.get("force-compression") == "" or flag(attrs, "force-compression", False)
    compression = parse_compression(
        attrs.get("compression") or "gzip", attrs.get("compression-level")
    )
    return LayerForm(compression=compression, is_forced=is_forced)


def manifest_form(attrs: Mapping[str, str]) -> ManifestForm:
    """Read `oci-mediatypes` and `image-manifest`.

    Raises:
        UserError: they contradict each other.
    """
    oci_types = flag(attrs, "oci-mediatypes", True)
    return ManifestForm(oci_types=oci_types, is_image=flag(attrs, "image-manifest", oci_types))


def required(attrs: Mapping[str, str], key: str, who: str) -> str:
    """Read an attribute that must be there; `who` is the beginning of the message.

    Raises:
        CacheOptionError: it is missing.
    """
    value = attrs.get(key, "")
    if not value:
        raise CacheOptionError(f"{who} requires {key}")
    return value
