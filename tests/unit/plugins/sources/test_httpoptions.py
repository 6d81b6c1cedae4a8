"""What an http source is asked for, pure."""

from __future__ import annotations

import pytest

from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.ops.source import InvalidSourceError, SourceRequest
from torana.plugins.sources.httpoptions import (
    DetachedSignature,
    HttpOptions,
    file_name,
    http_key,
    parse_http,
)
from torana.plugins.sources.webclient import Answer, redacted


def request(rest: str = "host/a/b.tar", **attrs: str) -> SourceRequest:
    named = {f"http.{name.replace('__', '.')}": value for name, value in attrs.items()}
    return SourceRequest(scheme="https", rest=rest, attrs=named)


def test_attributes() -> None:
    digest = Digest.of(b"x")
    options = parse_http(
        request(
            checksum=digest,
            filename="f",
            perm="0644",
            uid="0x10",
            gid="7",
            authheadersecret="token",
            header__accept="text/plain",
            header__cookie="never",
            strange="ignored",
        )
    )
    assert options == HttpOptions(
        url="https://host/a/b.tar",
        checksum=digest,
        filename="f",
        mode=0o644,
        uid=16,
        gid=7,
        auth_header_secret="token",
        headers=(("Accept", "text/plain"),),
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"perm": "rw"},
        {"uid": ""},
        {"gid": "1.5"},
        {"perm": "09"},
        {"sig__pubkey": "k"},
        {"sig__signature": "s"},
    ],
)
def test_malformed_attributes(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidSourceError):
        parse_http(request(**wrong))


def test_other_refusals() -> None:
    with pytest.raises(InvalidDigestError):
        parse_http(request(checksum="sha256:short"))
    with pytest.raises(InvalidSourceError, match="no host"):
        parse_http(request("/path"))
    with pytest.raises(InvalidSourceError, match="no host"):
        parse_http(request("[half/path"))


def test_signatures() -> None:
    assert parse_http(request(sig__pubkey="", sig__signature="")).signature is None
    found = parse_http(request(sig__pubkey="k", sig__signature="s")).signature
    assert found == DetachedSignature("s", "k")


@pytest.mark.parametrize(
    "rest, asked, offered, expected",
    [
        ("h/a/b.tar?x=/y", "", None, "b.tar"),
        ("h/a/b%20c", "", None, "b c"),
        ("h/a/dir/", "", None, "dir"),
        ("h", "", None, "download"),
        ("h/", "", None, "download"),
        ("h/..", "", None, "download"),
        ("h/%01", "", None, "download"),
        ("h/a", "../../named", None, "named"),
        ("h/a", "named", 'attachment; filename="other"', "named"),
        ("h/a", "", 'attachment; filename="../../etc/other"', "other"),
        ("h/a", "", "inline", "a"),
    ],
)
def test_names(rest: str, asked: str, offered: str | None, expected: str) -> None:
    headers = {} if offered is None else {"content-disposition": offered}
    options = parse_http(request(rest, filename=asked))
    assert file_name(options, Answer(200, headers)) == expected


def test_the_key_has_the_members_that_buildkit_writes() -> None:
    digest = Digest.of(b"x")
    plain = parse_http(request())
    text = f'{{"Filename":"b.tar","Perm":0,"UID":0,"GID":0,"Checksum":"{digest}"}}'
    assert http_key(plain, "b.tar", digest, None) == Digest.of_text(text)
    full = parse_http(request(authheadersecret="s", header__accept="a/b", perm="0755"))
    text = (
        f'{{"Filename":"n","Perm":493,"UID":0,"GID":0,"Checksum":"{digest}",'
        '"LastModTime":"Thu, 01 Jan 1970 00:01:00 GMT","AuthHeaderSecret":"s",'
        '"Header":[{"Name":"Accept","Value":"a/b"}]}'
    )
    assert http_key(full, "n", digest, 60) == Digest.of_text(text)


def test_passwords_are_not_shown() -> None:
    assert redacted("https://user:secret@host:1/p?q") == "https://user:xxxxx@host:1/p?q"
    assert redacted("https://user@host/p") == "https://user@host/p"
