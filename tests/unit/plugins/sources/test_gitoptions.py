"""What a git source is asked for, pure."""

from __future__ import annotations

import pytest

from torana.core.ops.source import InvalidSourceError, SourceRequest
from torana.plugins.sources.gitbundle import target_ref
from torana.plugins.sources.gitoptions import (
    GitChecksumError,
    GitOptions,
    GitRefNotFoundError,
    ResolvedRef,
    choose_ref,
    git_key,
    known_ref,
    parse_git,
    redacted_remote,
    without_credentials,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40


def parse(rest: str, **attrs: str) -> GitOptions:
    named = {f"git.{name}": value for name, value in attrs.items()}
    return parse_git(SourceRequest(scheme="git", rest=rest, attrs=named))


def test_identifiers() -> None:
    options = parse("github.com/x/y.git#main:sub/dir", fullurl="https://github.com/x/y.git")
    assert (options.remote, options.ref, options.subdir) == (
        "https://github.com/x/y.git",
        "main",
        "sub/dir",
    )
    assert options.host == "github.com"
    assert options.has_submodules
    assert parse("host/x").remote == "https://host/x"
    scp = parse("host/x", fullurl="git@host:x.git", skipsubmodules="true")
    assert (scp.host, scp.is_ssh, scp.has_submodules) == ("host", True, False)
    # Only the exact text counts.
    assert not parse("host/x", keepgitdir="1").is_git_dir_kept


@pytest.mark.parametrize("rest", ["host/x#--upload-pack=evil", ""])
def test_refused_identifiers(rest: str) -> None:
    with pytest.raises(InvalidSourceError):
        parse(rest)


def test_refused_attributes() -> None:
    with pytest.raises(InvalidSourceError, match="expected hex commit hash"):
        parse("host/x", checksum="main")
    sha = "sha256:" + "b" * 64
    for bundle, message in {
        "x@sha256:y": "missing scheme",
        f"http://x/y@{sha}": "scheme `http` is not supported",
        "docker-image+blob://x/y@sha256:y": "failed to parse git.bundle locator",
        "docker-image+blob://x/y:1": "has no sha256 digest",
        f"docker-image+blob://x/y@{sha}": "requires git.checksum",
    }.items():
        with pytest.raises(InvalidSourceError, match=message):
            parse("host/x", bundle=bundle)
    with pytest.raises(InvalidSourceError, match="a full commit"):
        parse("host/x", bundle=f"docker-image+blob://x/y@{sha}", checksum="abc")
    for attrs in ({"keepgitdir": "true"}, {}):
        with pytest.raises(InvalidSourceError, match=r"git\.checkoutbundle is incompatible with"):
            parse("host/x#main:sub", checkoutbundle="true", **attrs)


def test_bundles() -> None:
    sha = "sha256:" + "b" * 64
    options = parse(
        "host/x",
        bundle=f"oci-layout+blob://host/store:tag@{sha}",
        checksum=A,
        fetchbycommit="true",
        checkoutbundle="true",
    )
    assert options.bundle is not None
    assert (options.bundle.store, options.bundle.digest) == ("host/store", sha)
    assert known_ref(options) == ResolvedRef(A, A)
    assert git_key(options, ResolvedRef(A, A)) == f"{A}(bundle)"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "refs/heads/main"),
        (A, "refs/heads/main"),
        ("refs/heads/x/y", "refs/heads/x/y"),
        ("refs/tags/v1", "refs/tags/v1"),
        ("refs/pull/1/head", "refs/heads/pull/1/head"),
    ],
)
def test_refs_in_bundles(name: str, expected: str) -> None:
    assert target_ref(name) == expected


def test_a_signature_of_nobody() -> None:
    with pytest.raises(InvalidSourceError, match=r"git\.sig\.requiresignedtag requires"):
        parse("host/x", **{"sig.requiresignedtag": "true"})
    assert parse("host/x", **{"sig.requiresignedtag": "false"}).signature is None


def test_what_needs_no_network() -> None:
    assert known_ref(parse(f"host/x#{A}")) == ResolvedRef(A, A)
    assert known_ref(parse(f"host/x#{A}", checksum="aaaa")) == ResolvedRef(A, A)
    assert known_ref(parse("host/x#main")) is None
    with pytest.raises(GitChecksumError, match=f"expected checksum to match bb, got {A}"):
        known_ref(parse(f"host/x#{A}", checksum="bb"))
    by_commit = {"fetchbycommit": "true", "checksum": B}
    assert known_ref(parse("host/x", **by_commit)) == ResolvedRef(B, B)
    assert known_ref(parse("host/x#dev", **by_commit)) == ResolvedRef("refs/heads/dev", B)
    with pytest.raises(InvalidSourceError, match="requires a checksum"):
        known_ref(parse("host/x#dev", fetchbycommit="true"))


def listing(**refs: str) -> str:
    return "".join(f"{sha}\t{name.replace('__', '/')}\n" for name, sha in refs.items())


def test_branches_come_before_tags() -> None:
    options = parse("host/x")
    both = listing(refs__heads__v1=A, refs__tags__v1=B)
    assert choose_ref(options, "v1", both) == ResolvedRef("refs/heads/v1", A)
    assert choose_ref(options, "refs/tags/v1", both) == ResolvedRef("refs/tags/v1", B)
    pull = listing(refs__pull__1__head=C, refs__heads__pull__1__head=A)
    assert choose_ref(options, "pull/1/head", pull) == ResolvedRef("refs/pull/1/head", C)


def test_annotated_tags_count_as_their_commit() -> None:
    lines = listing(refs__tags__v1=A) + f"{B}\trefs/tags/v1^{{}}\n"
    assert choose_ref(parse("host/x"), "v1", lines) == ResolvedRef("refs/tags/v1", A, B)
    kept = parse("host/x", keepgitdir="true")
    assert choose_ref(kept, "v1", lines) == ResolvedRef("refs/tags/v1", A)
    for checksum in ("aa", "bb"):
        choose_ref(parse("host/x", checksum=checksum), "v1", lines)
    with pytest.raises(GitChecksumError, match=f"got {A} or {B}"):
        choose_ref(parse("host/x", checksum="cc"), "v1", lines)


def test_a_missing_ref() -> None:
    with pytest.raises(GitRefNotFoundError, match="repository does not contain ref v2"):
        choose_ref(parse("host/x"), "v2", "garbage\n" + listing(refs__heads__v1=A))


def test_keys() -> None:
    plain = ResolvedRef("refs/heads/main", A)
    assert git_key(parse("host/x#main"), plain) == A
    assert git_key(parse("host/x#main:sub", skipsubmodules="true", mtime="commit"), plain) == (
        f"{A}:sub(skip-submodules)(mtime=commit)"
    )
    kept = parse("host/x#main", keepgitdir="true")
    assert git_key(kept, plain) == f"{A}.git#refs/heads/main"
    assert git_key(parse("host/x#v1"), ResolvedRef("refs/tags/v1", A, B)) == B


def test_credentials_are_not_shown() -> None:
    assert redacted_remote("https://u:p@host/x@y") == "https://u:xxxxx@host/x@y"
    assert redacted_remote("https://host/x") == "https://host/x"
    assert redacted_remote("git@host:x") == "git@host:x"
    assert without_credentials("https://u:p@host/x") == "https://host/x"
    assert without_credentials("https://token@host") == "https://host"
    assert without_credentials("ssh://git@host/x") == "ssh://git@host/x"
