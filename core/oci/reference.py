"""`ImageReference`: names of images, `[domain/]path[:tag][@digest]`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from torana.core.errors import UserError
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.records import dataclass

_DEFAULT_DOMAIN: Final = "docker.io"
_LEGACY_DOMAIN: Final = "index.docker.io"
_OFFICIAL: Final = "library"
_MAX_NAME: Final = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH_PART: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID: Final = re.compile(r"[a-f0-9]{64}")


class InvalidReferenceError(UserError):
    """Text is not an image reference."""

    code = "REFERENCE_INVALID"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """A normalised image name: the domain is always there, official images are in `library/`.

    Spec: OCI distribution specification, Pulling manifests; short names as Docker reads them.
    """

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    def with_default_tag(self) -> ImageReference:
        """Add `latest` where there is neither tag nor digest."""
        return self if self.tag or self.digest is not None else replace(self, tag="latest")

    def with_digest(self, digest: Digest) -> ImageReference:
        """Pin to `digest`, keeping the tag."""
        return replace(self, digest=digest)

    def familiar(self) -> str:
        """Give the short form that people write: `alpine:3`."""
        path = self.path
        if self.domain != _DEFAULT_DOMAIN:
            return f"{self.domain}/{path}{self._suffix()}"
        prefix = f"{_OFFICIAL}/"
        if path.startswith(prefix) and "/" not in path[len(prefix) :]:
            path = path[len(prefix) :]
        return path + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag if self.digest is None else f"{tag}@{self.digest}"

    def __str__(self) -> str:
        return self.name + self._suffix()


def parse_reference(text: str) -> ImageReference:
    """Parse and normalise a name as people write it.

    Raises:
        InvalidReferenceError: malformed, upper case in the path, or 64 hexadecimal characters.
    """
    if _ID.fullmatch(text):
        raise InvalidReferenceError(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    named = remainder.partition("@")[0]
    colon = named.rfind(":")
    repository = named if colon < 0 else named[:colon]
    if repository.lower() != repository:
        raise InvalidReferenceError(
            f"invalid reference format: repository name ({repository}) must be lowercase"
        )
    return _parse_parts(domain, remainder)


def _parse_parts(domain: str, remainder: str) -> ImageReference:
    named, at, digest_text = remainder.partition("@")
    path, colon, tag = named.partition(":")
    if (
        not _DOMAIN.fullmatch(domain)
        or not all(_PATH_PART.fullmatch(part) for part in path.split("/"))
        or (colon and not _TAG.fullmatch(tag))
        or (at and not _DIGEST.fullmatch(digest_text))
    ):
        raise InvalidReferenceError(
            "invalid reference format", hint=f"`{remainder}` is not NAME[:TAG][@DIGEST]"
        )
    if len(f"{domain}/{path}") > _MAX_NAME:
        raise InvalidReferenceError(f"repository name must not be more than {_MAX_NAME} characters")
    return ImageReference(domain, path, tag, _parse_digest(digest_text) if at else None)


def _parse_digest(text: str) -> Digest:
    algorithm = text.partition(":")[0]
    if algorithm not in ("sha256", "sha384", "sha512"):
        raise InvalidReferenceError("unsupported digest algorithm")
    try:
        return Digest.parse(text)
    except InvalidDigestError:
        raise InvalidReferenceError("invalid reference format") from None


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_domain = slash and (
        any(c in first for c in ".:") or first == "localhost" or first.lower() != first
    )
    domain, remainder = (first, rest) if is_domain else (_DEFAULT_DOMAIN, text)
    if domain == _LEGACY_DOMAIN:
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"{_OFFICIAL}/{remainder}"
    return domain, remainder
