"""`Lock`: what a build file's lock file pins: base images, includes, step packs.

`build.lock` lies beside `build.yaml`, `Minifile.lock` beside `Minifile`. Images in it are used by
their digests whenever it is there; a strict build uses nothing that is not in it, and refuses
includes that have changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from hashlib import sha256
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.records import dataclass
from torana.frontends.kit.beside import read_beside
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.values import parse_bool

_OPTION: Final = "locked"
_UPDATE: Final = "lock-update"
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


@dataclass(slots=True)
class Pins:
    """A lock in use: what it says, and what was found while the build file was lowered."""

    lock: Lock = field(default_factory=Lock)
    images: dict[str, str] = field(default_factory=dict)
    includes: dict[str, str] = field(default_factory=dict)

    def image(self, key: str) -> str | None:
        """Give the digest by which the image `key` is used, None: look it up.

        Raises:
            LockError: nothing may be looked up.
        """
        found = self.lock.images.get(key)
        if found is None and self.lock.is_strict:
            raise LockError(f"not in the lock file: `{key}`", hint="`torana lock` adds it")
        return found

    def include(self, key: str, found: str) -> None:
        """Note what an include is now.

        Raises:
            LockError: it is not what the lock says, and that must not be.
        """
        self.includes[key] = found
        locked = self.lock.includes.get(key)
        if self.lock.is_strict and locked != found:
            what = "is not in the lock file" if locked is None else "differs from the lock file"
            raise LockError(f"include {what}: `{key}`", hint="`torana update` renews it")

    def found(self) -> Lock:
        """Give the lock that pins all that was found."""
        return Lock(images=dict(self.images), includes=dict(self.includes))


def digest_of(data: bytes) -> str:
    """Give what a lock says of a file."""
    return f"sha256:{sha256(data).hexdigest()}"


def lock_name(filename: str) -> str:
    """Give the name of the lock file of a build file: `app.build.yaml` has `app.build.lock`."""
    stem = filename
    for suffix in (".yaml", ".yml"):
        stem = stem.removesuffix(suffix)
    return f"{stem}.lock"


def is_update(context: BuildContext) -> bool:
    """Whether what is pinned is to be looked up anew."""
    return bool(parse_bool(context.client.options.get(_UPDATE, "") or "false"))


def is_strict(context: BuildContext) -> bool:
    """Whether nothing may be used that is not pinned.

    Raises:
        UserError: the option `locked` is malformed.
    """
    text = context.client.options.get(_OPTION, "")
    found = parse_bool(text) if text else False
    if found is None:
        raise UserError(f"invalid boolean value for locked: `{text}`")
    return found


async def read_lock(context: BuildContext) -> Lock:
    """Read the lock file of a build file; without one nothing is pinned.

    Raises:
        LockError: it is malformed, or missing where the option `locked` asks for it.
    """
    is_needed = is_strict(context)
    name = lock_name(context.file.filename)
    found = await read_beside(context, name)
    if found is None:
        if is_needed:
            raise LockError(f"there is no lock file: `{name}`", hint=_HINT)
        return Lock()
    return decode_lock(found[0], name, is_strict=is_needed)


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
