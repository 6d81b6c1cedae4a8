"""What looks like a secret in options is blotted out of recordings. Pure.

Values of secrets never cross the gateway; but people put tokens into build arguments and addresses.
A value is replaced by as many asterisks as it has bytes, wherever it occurs: messages keep their
lengths, and a replayed frontend meets the same text everywhere. An op that changes by that gets
another digest, which then replaces the old one wherever that occurs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from torana.core.oci.digest import Digest
from torana.core.records import dataclass

_NAME: Final = re.compile(r"(?i)token|secret|passw|credential|api_?key|private|auth(?!or)")
_USERINFO: Final = re.compile(r"://([^/@\s]+)@")
_PLAIN_USERS: Final = frozenset({"git", "x-access-token", "oauth2"})
_MIN_BYTES: Final = 6  # shorter ones occur by chance, also in the frame of messages


@dataclass(frozen=True, slots=True)
class Redaction:
    """Replaces bytes by others of the same length; the longest first."""

    pairs: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Redaction:
        """Find what to blot out in the options of a frontend."""
        found = {value.encode() for value in _values(options)}
        kept = (value for value in found if len(value) >= _MIN_BYTES)
        ordered = sorted(kept, key=lambda value: (-len(value), value))
        return cls(tuple((value, b"*" * len(value)) for value in ordered))

    def with_ops(self, ops: Iterable[bytes]) -> Redaction:
        """Give the redaction that also replaces the digests of ops that it changes.

        `ops` come with inputs before users.
        """
        known = dict(self.pairs)
        made = self
        for op in ops if self.pairs else ():
            changed = made.data(op)
            if changed != op:
                known[Digest.of(op).encode()] = Digest.of(changed).encode()
                made = Redaction(tuple(known.items()))
        return made

    def data(self, data: bytes) -> bytes:
        """Give `data` without the values; it is as long as before."""
        for value, other in self.pairs:
            data = data.replace(value, other)
        return data

    def options(self, options: Mapping[str, str]) -> dict[str, str]:
        """Give options without the values; those with a telling name lose them whole."""
        return {
            key: "*" * len(value.encode())
            if _NAME.search(key)
            else self.data(value.encode()).decode()
            for key, value in options.items()
        }


def _values(options: Mapping[str, str]) -> Iterable[str]:
    for key, value in options.items():
        if _NAME.search(key):
            yield value
        for userinfo in _USERINFO.findall(value):
            yield from (part for part in userinfo.split(":") if part not in _PLAIN_USERS)
