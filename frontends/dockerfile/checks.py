"""Small checks of expanded words: signals, modes, owners, names that look like secrets."""

from __future__ import annotations

import re
from typing import Final

from torana.core.errors import BuildFileError
from torana.frontends.dockerfile.actions import Owner

_SIGNALS: Final = frozenset(
    "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT "
    "STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX".split()
)
_REALTIME: Final = re.compile(r"RTMIN\+(\d{1,2})|RTMAX-(\d{1,2})")
_SYMBOLIC: Final = re.compile(r"[ugoa]*(?:[-+=](?:[ugo]|[rwxXst]*))+")
_OCTAL: Final = re.compile(r"[0-7]+")
_MAX_MODE: Final = 0o7777
_ID: Final = re.compile(r"[+-]?[0-9]+")
_SECRET_PARTS: Final = frozenset(
    "apikey auth credential credentials key password pword passwd secret token".split()
)
_OPEN_PARTS: Final = frozenset(("public", "file", "version"))


def check_signal(text: str) -> None:
    """Refuse what is no signal of Linux.

    Raises:
        BuildFileError: neither a number other than 0 nor a known name.
    """
    if _ID.fullmatch(text):
        valid = int(text) != 0
    else:
        name = text.upper().removeprefix("SIG")
        valid = name in _SIGNALS or _is_realtime(name)
    if not valid:
        raise BuildFileError(f"invalid signal: {text}")


def _is_realtime(name: str) -> bool:
    match = _REALTIME.fullmatch(name)
    if match is None:
        return False
    up, down = match[1], match[2]
    return 1 <= int(up) <= 15 if up is not None else 1 <= int(down) <= 14


def parse_mode(text: str) -> int | str:
    """Read `--chmod`: an octal number, or a symbolic change, which stays text.

    Raises:
        BuildFileError: neither.
    """
    if text[:1].isdigit():
        if _OCTAL.fullmatch(text) and int(text, 8) <= _MAX_MODE:
            return int(text, 8)
        raise BuildFileError(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        )
    if not all(_SYMBOLIC.fullmatch(part) for part in text.split(",")):
        raise BuildFileError("invalid syntax")
    return text


def parse_owner(text: str) -> Owner | None:
    """Read `USER[:GROUP]`; None for the empty text."""
    if not text:
        return None
    user, colon, group = text.partition(":")
    return Owner(_identity(user), _identity(group) if colon else None)


def _identity(text: str) -> int | str:
    if text in ("", "root"):
        return 0
    if _ID.fullmatch(text) and -(1 << 31) <= int(text) < 1 << 31:
        return int(text) % (1 << 32)
    return text


def looks_secret(name: str) -> bool:
    """Say whether a variable's name promises something that should not be in an image."""
    parts = set(name.lower().split("_"))
    return bool(parts & _SECRET_PARTS) and not parts & _OPEN_PARTS
