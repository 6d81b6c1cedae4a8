"""`Manifest`: what a distribution says of its frontend without being imported.

The file `torana-frontend.json` lies in the package of the entry point's module, or in one above it.
Its JSON Schema is `torana-frontend.schema.json`; here only the shape is checked, because listing
plugins must not cost the import of a validator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.records import dataclass

FILENAME: Final = "torana-frontend.json"
API: Final = 1  # plugins carry `api = 1`; it changes when an interface changes incompatibly
_TEXT_LISTS: Final = ("aliases", "files", "capabilities")
_TEXTS: Final = ("name", "summary", "example", "schema")


class InvalidManifestError(UserError):
    """A `torana-frontend.json` is wrong; the text says where."""

    code = "MANIFEST_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known of a frontend; all of it may be missing.

    `aliases` are image names that the frontend stands for, without a tag for all tags. `files` are
    patterns of file names, as in `fnmatch`. `options` is a JSON Schema of type object.
    """

    api: int = 1
    name: str = ""  # the entry point that this is about, empty for every one of the package
    summary: str = ""
    aliases: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    example: str = ""
    schema: str = ""  # file in the package: JSON Schema of the build files themselves


def parse_manifest(text: str) -> Manifest:
    """Read the text of a manifest; keys that are not known are left to later versions.

    Raises:
        InvalidManifestError: it is no JSON object, or a known key has a value of another type.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise InvalidManifestError(f"{FILENAME}: no JSON: {err}") from None
    if not isinstance(document, dict):
        raise InvalidManifestError(f"{FILENAME}: must be an object")
    api = document.get("api", 1)
    if not isinstance(api, int) or isinstance(api, bool):
        raise InvalidManifestError(f"{FILENAME}: api: must be a number: `{api}`")
    options = document.get("options", {})
    if not isinstance(options, dict):
        raise InvalidManifestError(f"{FILENAME}: options: must be an object")
    return Manifest(
        api=api,
        options=options,
        **{key: _text(document, key) for key in _TEXTS},
        **{key: _texts(document, key) for key in _TEXT_LISTS},
    )


def _text(document: Mapping[str, Any], key: str) -> Any:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise InvalidManifestError(f"{FILENAME}: {key}: must be a string")
    return value


def _texts(document: Mapping[str, Any], key: str) -> Any:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidManifestError(f"{FILENAME}: {key}: must be a list of strings")
    return tuple(value)
