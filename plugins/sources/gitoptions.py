"""`GitOptions`: what a git source is asked for, how a ref is chosen, and its key. No I/O.

Spec: reference of sources, section 5; reference of the solver, section 6.1.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from torana.core.errors import NotFoundError, UserError
from torana.core.ops.source import InvalidSourceError, SourceRequest
from torana.core.records import dataclass
from torana.plugins.sources.gitbundle import Bundle, parse_bundle
from torana.plugins.sources.gitcommand import is_sha
from torana.plugins.sources.gitsignature import SignaturePolicy, parse_policy

_TRANSPORT: Final = re.compile(r"(https?|ssh|git)://|[\w.-]+@[\w.-]+:")
_SCP: Final = re.compile(r"(?P<user>[\w.-]+)@(?P<host>[\w.-]+):(?P<path>.*)")
_HEX: Final = re.compile(r"[0-9a-fA-F]+")


class GitChecksumError(UserError):
    """A ref is not the commit that was asked for."""

    code = "GIT_CHECKSUM_MISMATCH"


class GitRefNotFoundError(NotFoundError):
    """A repository has no such ref."""

    code = "GIT_REF_NOT_FOUND"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitOptions:
    """The attributes of a git source; empty strings where not given."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    is_git_dir_kept: bool = False
    has_submodules: bool = True
    is_commit_time_kept: bool = False  # `git.mtime=commit`
    mtime: str = ""
    is_fetched_by_commit: bool = False
    auth_token_secret: str = ""
    auth_header_secret: str = ""
    ssh_id: str = ""
    known_hosts: str = ""
    signature: SignaturePolicy | None = None
    bundle: Bundle | None = None  # where commits come from, in place of the remote
    is_bundled: bool = False  # the result is a bundle: one file

    @property
    def host(self) -> str:
        """The remote's host, with its port."""
        scp = _SCP.match(self.remote)
        if scp and "://" not in self.remote:
            return scp["host"]
        return urlsplit(self.remote).netloc.rpartition("@")[2]

    @property
    def is_ssh(self) -> bool:
        return self.remote.startswith("ssh://") or "://" not in self.remote


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """What a ref is: full name, object id, and the commit of an annotated tag."""

    name: str
    sha: str
    commit: str = ""  # only where it differs and counts for the key


def parse_git(request: SourceRequest) -> GitOptions:
    """Read `git://HOST/PATH#REF:SUBDIR` and its attributes.

    Raises:
        InvalidSourceError: no host, a ref that looks like an option, a checksum that is no hex, or
            attributes that do not go together.
    """
    attrs = request.attrs
    location, _, fragment = request.rest.partition("#")
    ref, _, subdir = fragment.partition(":")
    remote = attrs.get("git.fullurl", location)
    if not _TRANSPORT.match(remote):
        remote = f"https://{remote}"
    options = GitOptions(
        remote=remote,
        ref=ref,
        subdir=subdir,
        checksum=attrs.get("git.checksum", ""),
        is_git_dir_kept=attrs.get("git.keepgitdir") == "true",
        has_submodules=attrs.get("git.skipsubmodules") != "true",
        mtime=attrs.get("git.mtime", ""),
        is_commit_time_kept=attrs.get("git.mtime") == "commit",
        is_fetched_by_commit=attrs.get("git.fetchbycommit") == "true",
        auth_token_secret=attrs.get("git.authtokensecret", ""),
        auth_header_secret=attrs.get("git.authheadersecret", ""),
        ssh_id=attrs.get("git.mountsshsock", ""),
        known_hosts=attrs.get("git.knownsshhosts", ""),
        signature=parse_policy(attrs),
        bundle=parse_bundle(attrs),
        is_bundled=attrs.get("git.checkoutbundle") == "true",
    )
    if not options.host:
        raise InvalidSourceError("invalid git source: no host in its URL")
    if ref.startswith("-"):
        raise InvalidSourceError(f"invalid git ref: `{ref}`")
    if options.checksum and not _HEX.fullmatch(options.checksum):
        raise InvalidSourceError(
            f"invalid checksum {options.checksum} for Git URL, expected hex commit hash"
        )
    if options.bundle is not None and not ref and not is_sha(options.checksum):
        raise InvalidSourceError("git.bundle requires a ref, or a full commit in git.checksum")
    if options.is_bundled and options.is_git_dir_kept:
        raise InvalidSourceError("git.checkoutbundle is incompatible with git.keepgitdir")
    if options.is_bundled and options.subdir:
        raise InvalidSourceError("git.checkoutbundle is incompatible with git.subdir")
    return options


def known_ref(options: GitOptions) -> ResolvedRef | None:
    """Give what needs no network: a full commit id, or one fetched by its checksum.

    Raises:
        GitChecksumError: the ref is another commit than the checksum says.
        InvalidSourceError: fetching by commit without a commit.
    """
    ref, checksum = options.ref, options.checksum
    if is_sha(ref):
        if not ref.startswith(checksum):
            raise GitChecksumError(f"expected checksum to match {checksum}, got {ref}")
        return ResolvedRef(ref, ref)
    if options.bundle is not None and not ref and is_sha(checksum):
        return ResolvedRef(checksum, checksum)
    if not options.is_fetched_by_commit or options.bundle is not None:
        return None
    if not is_sha(checksum):
        raise InvalidSourceError("fetch-by-commit requires a checksum or a commit SHA ref")
    if not ref:
        return ResolvedRef(checksum, checksum)
    return ResolvedRef(ref if ref.startswith("refs/") else f"refs/heads/{ref}", checksum)


def choose_ref(options: GitOptions, ref: str, listing: str) -> ResolvedRef:
    """Choose from what `git ls-remote REMOTE ref ref^{}` printed.

    The exact name comes first, then a branch, then a tag. An annotated tag counts as the commit it
    points to, unless `.git` is kept.

    Raises:
        GitRefNotFoundError: there is none.
        GitChecksumError: it is another commit than the checksum says.
    """
    found = {}
    for line in listing.splitlines():
        sha, tab, name = line.partition("\t")
        if tab and is_sha(sha):
            found[name] = sha
    branch = f"refs/heads/{ref.removeprefix('refs/heads/')}"
    tag = f"refs/tags/{ref.removeprefix('refs/tags/')}"
    exact = f"refs/{ref.removeprefix('refs/')}"
    names = [name for name in (exact, branch, tag) if name in found]
    if not names:
        raise GitRefNotFoundError(
            f"repository does not contain ref {ref}",
            hint="list what there is with `git ls-remote`",
        )
    name, sha = names[0], found[names[0]]
    commit = found.get(f"{tag}^{{}}", "") if name == tag else ""
    if not (sha.startswith(options.checksum) or (commit and commit.startswith(options.checksum))):
        got = f"{sha} or {commit}" if commit else sha
        raise GitChecksumError(f"expected checksum to match {options.checksum}, got {got}")
    return ResolvedRef(name, sha, "" if options.is_git_dir_kept else commit)


def git_key(options: GitOptions, resolved: ResolvedRef) -> str:
    """Give the key string of a checkout."""
    key = resolved.commit or resolved.sha
    if options.is_git_dir_kept:
        key += f".git#{resolved.name}"
    if options.subdir:
        key += f":{options.subdir}"
    if not options.has_submodules:
        key += "(skip-submodules)"
    if options.mtime not in ("", "checkout"):
        key += f"(mtime={options.mtime})"
    if options.is_bundled:
        key += "(bundle)"
    return key


def redacted_remote(remote: str) -> str:
    """Give a remote without the password or token in it."""
    if "://" not in remote:
        return remote
    scheme, _, rest = remote.partition("://")
    user, at, place = rest.partition("/")[0].rpartition("@")
    if not at:
        return remote
    name, colon, _ = user.partition(":")
    path = rest.partition("/")[2]
    return f"{scheme}://{name}{':xxxxx' if colon else ''}@{place}/{path}"


def without_credentials(remote: str) -> str:
    """Give a remote without user information, except for ssh, where the user is no secret."""
    if not remote.startswith(("http://", "https://")):
        return remote
    scheme, _, rest = remote.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
