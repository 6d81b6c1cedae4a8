"""`RUN --mount`: the fields of one mount, checked.

Spec: instructions reference, section 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.suggest import did_you_mean
from torana.frontends.kit.values import csv_fields, parse_bool

_TYPES: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING: Final = ("shared", "private", "locked")
_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target"}
_FLAGS: Final = {"readonly": True, "ro": True, "readwrite": False, "rw": False}
_KEYS: Final = (
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
)
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtpKMGTP])?(?:i?[bB])?")
_UNITS: Final = "kmgtp"


@dataclass(slots=True)
class MountFields:
    """One mount as written, values expanded; numbers None where not given."""

    type: str = "bind"
    origin: str = ""  # from
    source: str = ""
    target: str = ""
    read_only: bool | None = None
    id: str = ""
    sharing: str = ""
    is_required: bool = False
    size_bytes: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None

    @property
    def is_read_only(self) -> bool:
        if self.read_only is not None:
            return self.read_only
        return self.type in ("bind", "secret", "ssh")


def mount_origin(text: str) -> str:
    """Give the `from` of a mount; empty without one."""
    for part in csv_fields(text):
        key, equals, value = part.partition("=")
        if equals and key.lower() == "from":
            return value
    return ""


def check_mount_from(text: str) -> None:
    """Refuse variables in `from`, the only field that is looked at while reading a file.

    Raises:
        BuildFileError: there is one.
    """
    if "$" in mount_origin(text)[:-1]:
        raise BuildFileError(
            "'from' doesn't support variable expansion, define alias stage instead"
        )


def parse_mount(text: str, expand: Callable[[str], str]) -> MountFields:
    """Read one value of the flag; keys are checked against the type known so far.

    Raises:
        BuildFileError: an unknown key or value, or one that does not go with the type.
    """
    mount = MountFields()
    for part in csv_fields(text):
        key, equals, value = part.partition("=")
        lowered = key.lower()
        if not equals:
            _bare(mount, lowered, part)
            continue
        if lowered != "from":
            value = expand(value)
        _field(mount, _ALIASES.get(lowered, lowered), lowered, value, part)
    return _checked(mount)


def _bare(mount: MountFields, key: str, part: str) -> None:
    if key in _FLAGS:
        mount.read_only = _FLAGS[key]
    elif key == "required" and mount.type in ("secret", "ssh"):
        mount.is_required = True
    elif key == "required":
        raise BuildFileError(f"unexpected key '{key}' for mount type '{mount.type}'")
    else:
        # any other word needs a value, known or not
        raise BuildFileError(f"invalid field '{part}' must be a key=value pair")


def _field(mount: MountFields, name: str, key: str, value: str, part: str) -> None:
    match name:
        case "type":
            mount.type = value.lower()
            if mount.type not in _TYPES:
                raise BuildFileError(
                    f'unsupported mount type "{value}"{did_you_mean(mount.type, _TYPES)}'
                )
        case "from":
            mount.origin = value
        case "source" | "target" | "id":
            setattr(mount, name, value)
        case "env":
            mount.env = value
        case "readonly" | "ro" | "readwrite" | "rw":
            wanted = parse_bool(value)
            if wanted is None:
                raise BuildFileError(f"invalid value for {key}: {value}")
            mount.read_only = wanted if _FLAGS[name] else not wanted
        case "required":
            _allow(mount, key, ("secret", "ssh"))
            wanted = parse_bool(value)
            if wanted is None:
                raise BuildFileError(f"invalid value for {key}: {value}")
            mount.is_required = wanted
        case "size":
            _allow(mount, key, ("tmpfs",))
            mount.size_bytes = _size(value)
        case "sharing":
            mount.sharing = value.lower()
            if mount.sharing not in _SHARING:
                raise BuildFileError(
                    f'unsupported sharing value "{value}"{did_you_mean(mount.sharing, _SHARING)}'
                )
        case "mode" | "uid" | "gid":
            setattr(mount, name, _number(value, name))
        case _:
            raise BuildFileError(f"unexpected key '{key}' in '{part}'{did_you_mean(key, _KEYS)}")


def _allow(mount: MountFields, key: str, types: tuple[str, ...]) -> None:
    if mount.type not in types:
        raise BuildFileError(f"unexpected key '{key}' for mount type '{mount.type}'")


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise BuildFileError(f"invalid value for size: {text}")
    power = _UNITS.index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * 1024**power)


def _number(text: str, name: str) -> int:
    base = 8 if name == "mode" else 10
    digits = "01234567" if base == 8 else "0123456789"
    if not text or set(text) - set(digits) or int(text, base) >= 1 << 32:
        raise BuildFileError(f"invalid value {text} for {name}")
    return int(text, base)


def _checked(mount: MountFields) -> MountFields:
    kind = mount.type
    if kind in ("bind", "tmpfs"):
        for name, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
            if value is not None:
                raise BuildFileError(f'{name} not allowed for "{kind}" type mounts')
    if kind == "secret":
        _check_secret(mount)
    elif mount.sharing and kind != "cache":
        raise BuildFileError(f"invalid cache sharing set for {kind} mount")
    return mount


def _check_secret(mount: MountFields) -> None:
    if mount.origin:
        raise BuildFileError("secret mount should not have a from")
    if mount.sharing:
        raise BuildFileError("secret mount should not define sharing")
    if not (mount.source or mount.target or mount.id):
        raise BuildFileError("invalid secret mount. one of source, target required")
    if mount.source and mount.id:
        raise BuildFileError("both source and id can't be set")
