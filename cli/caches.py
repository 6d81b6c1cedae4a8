"""`--cache-from` and `--cache-to`, as `docker buildx` spells them."""

from __future__ import annotations

from collections.abc import Sequence

from torana.cli.exports import parse_fields
from torana.core.errors import UsageError
from torana.gateway.client.client import CacheImport


def parse_cache_from(text: str) -> CacheImport:
    """Read one `--cache-from`: `type=TYPE,KEY=VALUE,...`, or the name of an image.

    Raises:
        UsageError: it is malformed, or has no type.
    """
    return _parse(text, "--cache-from")


def parse_cache_to(text: str) -> CacheImport:
    """Read one `--cache-to`; without `mode` it is `min`.

    Raises:
        UsageError: it is malformed, or has no type.
    """
    found = _parse(text, "--cache-to")
    return CacheImport(type=found.type, attrs={"mode": "min", **found.attrs})


def _parse(text: str, option: str) -> CacheImport:
    if text and "=" not in text and "," not in text:
        return CacheImport(type="registry", attrs={"ref": text})
    fields = parse_fields(text, option)
    kind = fields.pop("type", "")
    if not kind:
        raise UsageError(
            f"invalid {option}: type is required: `{text}`",
            hint=f"for example `{option} type=registry,ref=HOST/NAME:TAG` or "
            f"`{option} type=local,{'src' if option == '--cache-from' else 'dest'}=FOLDER`",
        )
    return CacheImport(type=kind, attrs=fields)


def describe(exports: Sequence[CacheImport]) -> list[str]:
    """Tell where the cache of a build is, a line for each place."""
    lines = []
    for each in exports:
        where = each.attrs.get("ref") or each.attrs.get("dest")
        if where and each.type != "inline":
            lines.append(f"build cache is in `{where}` ({each.type}, {each.attrs.get('mode')})")
    return lines
