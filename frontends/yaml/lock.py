"""`Lock`: what a build file's lock file pins: base images, includes, step packs.

`build.lock` lies beside `build.yaml`. Images in it are used by their digests whenever it is there;
a strict build uses nothing that is not in it, and refuses includes that have changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.records import dataclass
from torana.frontends.kit.beside import read_beside
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.values import parse_bool

OPTION: Final = "locked"
UPDATE: Final = "lock-update"
_VERSION: Final = 1
_HINT: Final = "`torana lock` writes it"


class LockError(UserError):
    """The lock file is missing or malformed, or does not fit the build file."""

    code = "LOCK_DRIFT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Pins by name: images by reference, includes and packs by what the file calls them."""

    images: Mapping[str, str] = field(default_factory=dict)
    includes: Mapping[str, str] = field(default_factory=dict)
    is_strict: bool = False

    def encode(self) -> bytes:
        """Give the text of the file, the same for the same pins."""
        document = {
            "version": _VERSION,
            "images": dict(sorted(self.images.items())),
            "includes": dict(sorted(self.includes.items())),
        }
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def lock_name(filename: str) -> str:
    """Give the name of the lock file of a build file: `app.build.yaml` has `app.build.lock`."""
    stem = filename
    for suffix in (".yaml", ".yml"):
        stem = stem.removesuffix(suffix)
    return f"{stem}.lock"


async def read_lock(context: BuildContext) -> Lock:
    """Read the lock file of a build file; without one nothing is pinned.

    Raises:
        LockError: it is malformed, or missing where the option `locked` asks for it.
    """
    text = context.client.options.get(OPTION, "")
    is_strict = parse_bool(text) if text else False
    if is_strict is None:
        raise UserError(f"invalid boolean value for locked: `{text}`")
    name = lock_name(context.file.filename)
    found = await read_beside(context, name)
    if found is None:
        if is_strict:
            raise LockError(f"there is no lock file: `{name}`", hint=_HINT)
        return Lock()
    return decode_lock(found[0], name, is_strict=is_strict)


def decode_lock(data: bytes, name: str, *, is_strict: bool = False) -> Lock:
    """Read the text of a lock file.

    Raises:
        LockError: it is malformed.
    """
    try:
        document: Any = json.loads(data)
    except ValueError as err:
        raise LockError(f"not a lock file: `{name}`: {err}", hint=_HINT) from err
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise LockError(f"not a lock file of version {_VERSION}: `{name}`", hint=_HINT)
    parts = {key: document.get(key, {}) for key in ("images", "includes")}
    for each in parts.values():
        if not isinstance(each, dict) or not all(isinstance(v, str) for v in each.values()):
            raise LockError(f"not a lock file: `{name}`", hint=_HINT)
    return Lock(**parts, is_strict=is_strict)
