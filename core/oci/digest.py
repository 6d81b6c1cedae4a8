"""`Digest`: the name of some bytes."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from torana.core.errors import UserError

_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")


class InvalidDigestError(UserError):
    """Text is not a digest."""

    code = "DIGEST_INVALID"


class Digest(str):
    """A digest as text, `sha256:<hex>`; made by `parse` (checked) or `of` (computed).

    Spec: OCI image specification, Descriptor, Digests.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check `text`.

        Raises:
            InvalidDigestError: unknown algorithm, wrong length or not lower-case hexadecimal.
        """
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigestError(f"invalid digest: no algorithm: `{text}`")
        if algorithm not in _LENGTHS:
            raise InvalidDigestError(f"invalid digest: unsupported algorithm: `{text}`")
        if len(encoded) != _LENGTHS[algorithm] or not _HEX.fullmatch(encoded):
            raise InvalidDigestError(f"invalid digest: wrong length or characters: `{text}`")
        return cls(text)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """Compute the sha256 digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def of_text(cls, text: str) -> Digest:
        """Compute the sha256 digest of `text` in UTF-8."""
        return cls.of(text.encode())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The part after the colon."""
        return self.partition(":")[2]
