"""`HttpOptions`: what an http source is asked for, the names it gives and its key. No I/O.

Spec: reference of sources, section 6; reference of the solver, section 6.1.
"""

from __future__ import annotations

import re
from email.message import Message
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.source import InvalidSourceError, SourceRequest
from torana.core.records import dataclass
from torana.plugins.sources.webclient import Answer

_DEFAULT_NAME: Final = "download"
_SENT_HEADERS: Final = ("Accept", "User-Agent")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class DetachedSignature:
    """An armored OpenPGP signature, and the armored public keys that may have made it."""

    text: str
    keys: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The attributes of an http source; `mode` 0 means unset, which is 0600."""

    url: str
    checksum: Digest | None = None
    filename: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    auth_header_secret: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # sorted, names in canonical form
    signature: DetachedSignature | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


def parse_http(request: SourceRequest) -> HttpOptions:
    """Read the attributes of `http://...` or `https://...`.

    Raises:
        InvalidSourceError: no host, or a malformed attribute.
        InvalidDigestError: the checksum is no digest.
    """
    attrs = request.attrs
    url = request.identifier
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise InvalidSourceError("invalid http source: no host in its URL")
    key, signature = attrs.get("http.sig.pubkey", ""), attrs.get("http.sig.signature", "")
    if bool(key) != bool(signature):
        raise InvalidSourceError("http signature verification requires both pubkey and signature")
    wanted = {
        name.removeprefix("http.header.").title(): value
        for name, value in attrs.items()
        if name.startswith("http.header.")
    }
    checksum = attrs.get("http.checksum")
    return HttpOptions(
        url=url,
        checksum=Digest.parse(checksum) if checksum is not None else None,
        filename=attrs.get("http.filename", ""),
        mode=number(attrs.get("http.perm", "0"), "http.perm"),
        uid=number(attrs.get("http.uid", "0"), "http.uid"),
        gid=number(attrs.get("http.gid", "0"), "http.gid"),
        auth_header_secret=attrs.get("http.authheadersecret", ""),
        headers=tuple((name, wanted[name]) for name in _SENT_HEADERS if name in wanted),
        signature=DetachedSignature(signature, key) if key else None,
    )


def number(text: str, name: str) -> int:
    """Read an integer literal; a leading zero means octal, as in C."""
    digits = text.lstrip("+-")
    try:
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            return int(text, 8)
        return int(text, 0)
    except ValueError:
        raise InvalidSourceError(f"{name} is no number: `{text}`") from None


def file_name(options: HttpOptions, answer: Answer | None) -> str:
    """Give the file's name: asked for, offered by the server, or the last part of the URL."""
    if options.filename:
        return base_name(options.filename)
    if answer is not None:
        message = Message()
        message["content-disposition"] = answer.header("content-disposition")
        offered = message.get_filename()
        if offered:
            return base_name(offered)
    return base_name(unquote(urlsplit(options.url).path))


def base_name(path: str) -> str:
    """Give the last part of a path as the name of a file, `download` where it can be none."""
    name = path.rstrip("/").rpartition("/")[2]
    return _DEFAULT_NAME if name in ("", ".", "..") or _CONTROL.search(name) else name


def http_key(options: HttpOptions, name: str, checksum: Digest, modified_s: int | None) -> str:
    """Give the key string of a file with these bytes."""
    members: dict[str, Any] = {
        "Filename": name,
        "Perm": options.mode,
        "UID": options.uid,
        "GID": options.gid,
        "Checksum": checksum,
    }
    if modified_s is not None:
        members["LastModTime"] = formatdate(modified_s, usegmt=True)
    if options.auth_header_secret:
        members["AuthHeaderSecret"] = options.auth_header_secret
    if options.headers:
        members["Header"] = [{"Name": name, "Value": value} for name, value in options.headers]
    return Digest.of(key_json(members))
