"""The git source: a commit of a repository, checked out.

One bare repository per remote is kept in the store, locked while somebody uses it, so that a later
build fetches only what is new. A checkout is made once per key.

Spec: reference of sources, section 5.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.cache.ref import ImmutableRef, MutableRef, RecordType, Tree
from torana.core.database import Database
from torana.core.errors import NotFoundError, UserError
from torana.core.ops.source import SourceKey, SourceRequest, SourceServices
from torana.core.pool import run_blocking
from torana.plugins.sources.bloborigins import BlobOrigins
from torana.plugins.sources.gitbundle import imported, write_bundle
from torana.plugins.sources.gitcommand import GitCommand, GitError, is_sha
from torana.plugins.sources.gitoptions import (
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
from torana.plugins.sources.gitrepository import Repository
from torana.plugins.sources.gitsignature import (
    GitSignatureError,
    SignaturePolicy,
    check_id,
    signed_commit,
    signed_tag,
    verify,
)

_CHECKOUTS: Final = """
CREATE TABLE IF NOT EXISTS git_checkouts (key TEXT PRIMARY KEY, ref TEXT NOT NULL) WITHOUT ROWID;
"""
_WHOLE_HOSTS: Final = ("github.com",)


class InvalidSubdirError(UserError):
    """A subdirectory is not there, or is reached through a symbolic link."""

    code = "GIT_SUBDIR_INVALID"


class GitSource:
    """Serves `git://`; bundles come from `blobs`."""

    schemes = ("git",)

    def __init__(self, blobs: BlobOrigins | None = None) -> None:
        self._blobs = blobs or BlobOrigins()

    def open(self, request: SourceRequest, services: SourceServices) -> GitInstance:
        return GitInstance(parse_git(request), services, self._blobs)


class GitInstance:
    """One checkout."""

    def __init__(self, options: GitOptions, services: SourceServices, blobs: BlobOrigins) -> None:
        self._options = options
        self._services = services
        self._blobs = blobs

    async def cache_key(self, index: int) -> SourceKey:
        resolved = await self._resolve()
        if self._options.signature is not None:
            await self._verify(resolved, self._options.signature)
        return SourceKey(git_key(self._options, resolved), pin=resolved.sha)

    async def snapshot(self) -> Tree | None:
        """Check out.

        Raises:
            GitError: the repository cannot be fetched.
            GitRefNotFoundError: it has no such ref any more.
            GitChecksumError: it is another commit than the checksum says.
            InvalidSubdirError: the subdirectory is none.
        """
        options = self._options
        resolved = await self._resolve()
        key = f"{git_key(options, resolved)}:{options.subdir}"
        locks = self._services.memo.setdefault(("git", "checkout", key), asyncio.Lock())
        async with locks:
            known = await self._checked_out(key)
            if known is not None:
                return known
            async with self._command() as git:
                repository = self._repository(resolved, git)
                async with repository.open() as bare:
                    ref = await self._check_out(bare, repository.tip, resolved)
            await run_blocking(_remember, self._services.database, key, ref.id)
            return ref

    async def _verify(self, resolved: ResolvedRef, policy: SignaturePolicy) -> None:
        """Check the signature of the tag or commit; for that it is fetched. Once per build.

        Raises:
            GitSignatureError: it is not signed as the policy wants.
        """
        memo = self._services.memo
        checked = ("git", "signature", self._options.remote, resolved.sha, policy)
        async with memo.setdefault(("git", "signature lock", *checked), asyncio.Lock()):
            if checked in memo:
                return
            async with self._command() as git:
                repository = self._repository(resolved, git)
                async with repository.open() as bare:
                    tag, commit = await _objects(bare, resolved)
            await _verify_objects(tag, commit, policy)
            memo[checked] = True

    async def _resolve(self) -> ResolvedRef:
        """Find out which commit it is: once per build."""
        options = self._options
        known = known_ref(options)
        if known is not None:
            return known
        memo = self._services.memo
        lock: asyncio.Lock = memo.setdefault(
            ("git", "lock", options.remote, options.ref), asyncio.Lock()
        )
        listed = ("git", "listing", options.remote, options.ref, options.bundle, options.checksum)
        async with lock:
            if listed not in memo:
                async with self._command() as git:
                    async with self._remote(git) as remote:
                        memo[listed] = await _list(git, options, remote)
            ref, listing = memo[listed]
        return choose_ref(options, ref, listing)

    def _repository(self, resolved: ResolvedRef, git: GitCommand) -> Repository:
        refs = self._services.refs
        return Repository(self._options, resolved, git, refs, lambda: self._remote(git))

    @asynccontextmanager
    async def _remote(self, git: GitCommand) -> AsyncIterator[str]:
        """Give the URL of the remote, or of a repository that has what is in the bundle."""
        options = self._options
        if options.bundle is None:
            yield options.remote
            return
        content = self._services.content
        async with imported(options.bundle, git, self._blobs, content, options.checksum) as staged:
            yield f"file://{staged.git_dir}"

    @asynccontextmanager
    async def _command(self) -> AsyncIterator[GitCommand]:
        """Give git with this source's credentials."""
        options, services = self._options, self._services
        if options.bundle is not None:  # the remote is not asked
            yield GitCommand(log=lambda data: services.progress.log(2, data))
            return
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torana-git-")))
            known_hosts = socket = None
            if options.is_ssh and options.known_hosts:
                known_hosts = folder / "known_hosts"
                known_hosts.write_text(options.known_hosts)
            if options.is_ssh and options.ssh_id and services.ssh is not None:
                socket = folder / "agent"
                forwarded = services.ssh.forward(options.ssh_id, socket)
                if not await stack.enter_async_context(forwarded):
                    raise NotFoundError(
                        f'no SSH key "{options.ssh_id}" forwarded from the client',
                        hint="give one with --ssh default",
                    )
            yield GitCommand(
                settings=await self._authorization(),
                ssh_socket=socket,
                known_hosts=known_hosts,
                log=lambda data: services.progress.log(2, data),
            )

    async def _authorization(self) -> dict[str, str]:
        options, secrets = self._options, self._services.secrets
        if options.is_ssh or secrets is None:
            return {}
        header, token = options.auth_header_secret, options.auth_token_secret
        names = [(f"{header}.{options.host}", False), (f"{token}.{options.host}", True)]
        names += [(header, False), (token, True)]
        for name, is_token in names:
            value = await secrets.get(name) if name and not name.startswith(".") else None
            if value is None:
                continue
            if is_token:
                value = b"basic " + base64.b64encode(b"x-access-token:" + value.strip())
            text = value.decode("latin-1").strip()
            return {f"http.{_scope(options)}.extraheader": f"Authorization: {text}"}
        return {}

    async def _checked_out(self, key: str) -> ImmutableRef | None:
        found = await run_blocking(_find, self._services.database, key)
        if found is None:
            return None
        try:
            return await self._services.refs.get(found)
        except NotFoundError:
            return None

    async def _check_out(self, bare: GitCommand, tip: str, resolved: ResolvedRef) -> ImmutableRef:
        options = self._options
        shown = redacted_remote(options.remote)
        what = "git bundle checkout" if options.is_bundled else "git snapshot"
        new: MutableRef = await self._services.refs.new_mutable(
            None,
            description=f"{what} for {shown}#{options.ref}",
            record_type=RecordType.REGULAR if options.is_bundled else RecordType.GIT_CHECKOUT,
        )
        try:
            with new.mount() as root:
                await self._fill(bare, tip, resolved, root)
            return await new.commit()
        except BaseException:
            await new.release()
            raise

    async def _fill(self, bare: GitCommand, tip: str, resolved: ResolvedRef, root: Path) -> None:
        options = self._options
        if options.is_bundled:
            await write_bundle(bare, resolved.name, resolved.sha, root)
        else:
            await self._fill_tree(bare, tip, resolved, root)
        if options.is_commit_time_kept:
            seconds = await bare.run("log", "-1", "--format=%ct", f"{resolved.sha}^{{commit}}")
            await run_blocking(_set_times, root, int(seconds))

    async def _fill_tree(
        self, bare: GitCommand, tip: str, resolved: ResolvedRef, root: Path
    ) -> None:
        options = self._options
        subdir = os.path.normpath(f"/{options.subdir}").strip("/")
        if options.is_git_dir_kept and not subdir:
            tree = root
            work = bare.at(git_dir=root / ".git", work_tree=tree)
            await _clone(bare, work, tip, resolved, options)
        else:
            tree = root / ".torana-checkout" if subdir else root
            tree.mkdir(exist_ok=True)
            work = bare.at(git_dir=bare.git_dir, work_tree=tree)
            await work.run("checkout", "--no-overlay", "-q", tip, "--", ".")
        if options.has_submodules:
            await work.run("submodule", "sync", "-q", "--recursive")
            await work.run("submodule", "update", "--init", "--recursive", "--depth=1")
            if work.git_dir == bare.git_dir:
                await run_blocking(_cut_off, tree)
        if subdir:
            await run_blocking(_lift, tree, subdir, root)


async def _objects(bare: GitCommand, resolved: ResolvedRef) -> tuple[bytes | None, bytes]:
    """Give the raw objects of the annotated tag, if it is one, and of the commit; checked."""

    async def read(kind: str, id: str) -> bytes:
        data = (await bare.run("cat-file", kind, id)).encode(errors="surrogateescape")
        check_id(kind, data, id)
        return data

    tag = None
    if (await bare.run("cat-file", "-t", resolved.sha)).strip() == "tag":
        tag = await read("tag", resolved.sha)
    commit = (await bare.run("rev-parse", f"{resolved.sha}^{{commit}}")).strip()
    return tag, await read("commit", commit)


async def _verify_objects(tag: bytes | None, commit: bytes, policy: SignaturePolicy) -> None:
    """Check the tag, else the commit."""
    if tag is not None and not policy.ignores_tag:
        try:
            await verify(signed_tag(tag), policy)
            return
        except GitSignatureError:
            if policy.requires_tag:
                raise
    if policy.requires_tag:
        raise GitSignatureError("signed tag required but no signed tag found")
    await verify(signed_commit(commit), policy)


async def _list(git: GitCommand, options: GitOptions, remote: str) -> tuple[str, str]:
    """Ask the remote for a ref; gives its name (the default branch's if none) and the answer."""
    ref = options.ref
    try:
        if not ref:
            heads = await git.run("ls-remote", "--symref", "--", remote, "HEAD")
            ref = _default_branch(heads)
        return ref, await git.run("ls-remote", "--", remote, ref, f"{ref}^{{}}")
    except GitError as err:
        raise GitError(
            f"failed to fetch remote {redacted_remote(options.remote)}: {err.message}",
            err.output,
            hint="is the address right, is the network there, and is a GIT_AUTH_TOKEN needed?",
        ) from err


def _default_branch(heads: str) -> str:
    for line in heads.splitlines():
        if line.startswith("ref: refs/heads/"):
            return line.removeprefix("ref: refs/heads/").partition("\t")[0]
    raise GitRefNotFoundError("repository has no default branch", hint="name one: `URL#BRANCH`")


async def _clone(
    bare: GitCommand, work: GitCommand, tip: str, resolved: ResolvedRef, options: GitOptions
) -> None:
    """Make a repository of its own around the checkout, without a trace of where it came from."""
    arguments = ["--object-format=sha256"] if len(resolved.sha) == 64 else []
    assert work.git_dir is not None and bare.git_dir is not None
    await work.run("init", "-q", *arguments)
    kind = (await bare.run("cat-file", "-t", tip)).strip()
    if kind == "tag":
        name = tip if tip.startswith("refs/tags/") else f"refs/tags/{tip}"
        wanted = f"{tip}:{name}"
    elif is_sha(tip):
        wanted = f"refs/torana/{tip}"
        await bare.run("update-ref", wanted, tip)
        if options.ref and not is_sha(options.ref):
            wanted = f"{wanted}:{resolved.name}"
    else:
        wanted = f"{tip}:{tip}"
    # By the file protocol, since a copy of the folder would follow links in it.
    origin = f"file://{bare.git_dir}"
    await work.run("fetch", "-q", "-u", "--depth=1", "--", origin, wanted)
    await work.run("checkout", "-q", "FETCH_HEAD")
    await work.run("remote", "add", "origin", without_credentials(options.remote))
    await work.run("reflog", "expire", "--all", "--expire=now")
    (work.git_dir / "FETCH_HEAD").unlink(missing_ok=True)


def _lift(tree: Path, subdir: str, root: Path) -> None:
    """Make `subdir` of a checkout the whole of it; every part must be a real directory."""
    current = tree
    for part in subdir.split("/"):
        current = current / part
        try:
            is_directory = stat.S_ISDIR(os.lstat(current).st_mode)
        except FileNotFoundError:
            is_directory = False
        if not is_directory:
            raise InvalidSubdirError(f"invalid subdir {subdir}: `{part}` is no directory")
    for name in os.listdir(current):
        os.rename(current / name, root / name)
    shutil.rmtree(tree)


def _cut_off(tree: Path) -> None:
    """Remove the files by which submodules find their repositories, which stay behind."""
    for folder, directories, files in os.walk(tree):
        if ".git" in files:
            os.unlink(os.path.join(folder, ".git"))
        directories[:] = [name for name in directories if name != ".git"]


def _set_times(root: Path, seconds: int) -> None:
    for folder, directories, files in os.walk(root, topdown=False):
        for name in (*directories, *files):
            os.utime(os.path.join(folder, name), (seconds, seconds), follow_symlinks=False)
    os.utime(root, (seconds, seconds))


def _scope(options: GitOptions) -> str:
    """Give the URL whose requests carry the header: the remote; for some, the host's submodules."""
    scheme = options.remote.partition("://")[0]
    if options.host in _WHOLE_HOSTS:
        return f"{scheme}://{options.host}/"
    return without_credentials(options.remote)


def _find(database: Database, key: str) -> str | None:
    database.execute_script(_CHECKOUTS)
    row = database.row("SELECT ref FROM git_checkouts WHERE key = ?", (key,))
    return None if row is None else row[0]


def _remember(database: Database, key: str, ref: str) -> None:
    database.execute("INSERT OR REPLACE INTO git_checkouts VALUES (?, ?)", (key, ref))
