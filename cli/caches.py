"""`--cache-from` and `--cache-to`, as `docker buildx` spells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from torana.cli.exports import parse_fields
from torana.core.errors import UsageError
from torana.core.remotecache.backend import manifest_answer
from torana.gateway.client.client import CacheImport

_ANSWERING: Final = ("registry", "local")


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


def describe(exports: Sequence[CacheImport], response: Mapping[str, str]) -> list[str]:
    """Tell where the cache of a build is, a line for each place that got one.

    A registry or folder that is not in the answer has none: its export failed, and errors were to
    be ignored, or there was nothing to write.
    """
    places = [each for each in exports if each.type != "inline"]
    lines = []
    for number, each in enumerate(places):
        where = each.attrs.get("ref") or each.attrs.get("dest")
        if where and (each.type not in _ANSWERING or manifest_answer(response, number)):
            mode = "max" if each.attrs.get("mode") == "max" else "min"
            lines.append(f"build cache is in `{where}` ({each.type}, {mode})")
    return lines
