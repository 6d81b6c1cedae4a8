"""`GitRef`: addresses of git repositories, with what fragment and query say of the checkout.

Spec: conversion reference, section 4.1.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.records import dataclass
from torana.frontends.kit.values import parse_bool

_URL: Final = re.compile(r"(git|ssh|https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.S)
_SCP: Final = re.compile(
    r"([A-Za-z0-9_-]+)@([A-Za-z0-9.-]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.S
)
_GITHUB: Final = re.compile(r"(github\.com/[^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.S)
_FLAGS: Final = ("keep-git-dir", "submodules", "fetch-by-commit")
_TEXTS: Final = ("ref", "tag", "branch", "subdir", "checksum", "commit", "mtime")


class InvalidGitRefError(BuildFileError):
    """The address is one of git, but its query is wrong."""

    code = "GIT_REF_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRef:
    """A repository and a checkout of it; what is not said is empty or None."""

    remote: str  # address without query and fragment
    path: str  # host and path without scheme and user: names the repository
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    fetch_by_commit: bool | None = None
    mtime: str = ""
    is_unencrypted: bool = False
    is_ssh: bool = False
    is_like_local: bool = False  # `github.com/...`: a path, too

    @property
    def url(self) -> str:
        """The address to fetch from."""
        return f"https://{self.remote}" if self.is_like_local else self.remote

    @property
    def short_name(self) -> str:
        return posixpath.basename(self.path).removesuffix(".git")


def parse_git_ref(text: str) -> GitRef | None:
    """Read an address; None if it is none of git.

    Raises:
        InvalidGitRefError: unknown, empty, repeated or conflicting parts of the query.
    """
    if match := _URL.fullmatch(text):
        scheme, authority, path, query, fragment = match.groups()
        if scheme.startswith("http") and not path.endswith(".git"):
            return None
        remote = f"{scheme}://{authority}{path}"
        host = authority.rpartition("@")[2]
        return _ref(
            remote,
            host + path,
            query,
            _unquoted(fragment or ""),
            is_unencrypted=scheme in ("git", "http"),
            is_ssh=scheme == "ssh",
        )
    if match := _SCP.fullmatch(text):
        user, host, path, query, fragment = match.groups()
        name = f"{host}/{path.lstrip('/')}"
        return _ref(f"{user}@{host}:{path}", name, query, fragment or "", is_ssh=True)
    if match := _GITHUB.fullmatch(text):
        remote, query, fragment = match.groups()
        return _ref(remote, remote, query, fragment or "", is_like_local=True)
    return None


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote

    return unquote(text)


def _ref(
    remote: str,
    path: str,
    query: str | None,
    fragment: str,
    *,
    is_unencrypted: bool = False,
    is_ssh: bool = False,
    is_like_local: bool = False,
) -> GitRef:
    values = _query(query or "")
    flags = {name: _flag(name, values) for name in _FLAGS}
    mtime = values.get("mtime", "")
    if mtime not in ("", "checkout", "commit"):
        raise InvalidGitRefError(f'invalid mtime value: "{mtime}" (must be "checkout" or "commit")')
    ref, _, subdir = fragment.partition(":")
    return GitRef(
        remote=remote,
        path=path,
        ref=_merged_ref(ref, values),
        subdir=_agreed("subdir", _inside(subdir), _inside(values.get("subdir", ""))),
        checksum=_agreed("checksum", values.get("checksum", ""), values.get("commit", "")),
        keep_git_dir=flags["keep-git-dir"],
        submodules=flags["submodules"],
        fetch_by_commit=flags["fetch-by-commit"],
        mtime=mtime,
        is_unencrypted=is_unencrypted,
        is_ssh=is_ssh,
        is_like_local=is_like_local,
    )


def _query(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        name, _, value = (_unquoted(part.replace("+", " ")) for part in pair.partition("="))
        if name not in _FLAGS and name not in _TEXTS:
            raise InvalidGitRefError(f'unexpected query "{name}"')
        if name in values:
            raise InvalidGitRefError(f'query "{name}" has multiple values')
        if not value and name in _TEXTS:
            raise InvalidGitRefError(f'query "{name}" has no value')
        values[name] = value
    return values


def _flag(name: str, values: Mapping[str, str]) -> bool | None:
    if name not in values:
        return None
    value = parse_bool(values[name]) if values[name] else True
    if value is None:
        raise InvalidGitRefError(f'invalid {name} value: "{values[name]}"')
    return value


def _merged_ref(ref: str, values: Mapping[str, str]) -> str:
    if "tag" in values and "branch" in values:
        raise InvalidGitRefError("branch conflicts with tag")
    ref = _agreed("ref", ref, values.get("ref", ""))
    for name, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if name in values:
            ref = _agreed("ref", ref, prefix + values[name].removeprefix(prefix))
    return ref


def _agreed(name: str, first: str, second: str) -> str:
    if first and second and first != second:
        raise InvalidGitRefError(f'{name} conflicts: "{first}" vs "{second}"')
    return first or second


def _inside(path: str) -> str:
    return posixpath.normpath(f"/{path}").lstrip("/") if path else ""
