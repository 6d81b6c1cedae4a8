"""`Repository`: the bare repository of one remote, kept between builds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from torana.core.cache.ref import RefStore
from torana.plugins.sources.gitbundle import create
from torana.plugins.sources.gitcommand import GitCommand, GitError, is_sha
from torana.plugins.sources.gitoptions import (
    GitChecksumError,
    GitOptions,
    ResolvedRef,
    redacted_remote,
)

OpenRemote = Callable[[], AbstractAsyncContextManager[str]]
"""Gives the URL to fetch from, while it is entered: the remote's, or that of what stands for it."""


class Repository:
    """Fetches what a checkout needs; `tip` names it in the bare repository afterwards.

    What is to become a bundle is fetched with its whole history.
    """

    def __init__(
        self,
        options: GitOptions,
        resolved: ResolvedRef,
        git: GitCommand,
        refs: RefStore,
        source: OpenRemote,
    ) -> None:
        self._options = options
        self._resolved = resolved
        self._git = git
        self._refs = refs
        self._source = source
        by_id = is_sha(resolved.name) or options.is_fetched_by_commit or options.is_bundled
        self.tip = resolved.sha if by_id else resolved.name.removeprefix("refs/heads/")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[GitCommand]:
        """Give git on the bare repository, which holds the commit; others wait meanwhile.

        Raises:
            GitError: it cannot be fetched.
            GitChecksumError: it is another commit than the checksum says.
        """
        shown = redacted_remote(self._options.remote)
        record = await self._refs.retained(
            f"git:{self._options.remote}:{len(self._resolved.sha)}",
            description=f"shared git repo for {shown}",
            base=None,
            wait=True,
        )
        assert record is not None, "it waits until it has the record"
        try:
            with record.mount() as folder:
                bare = self._git.at(git_dir=folder / "repository")
                try:
                    await self._fetch(bare)
                except GitError as err:
                    if not _is_stuck(err):
                        raise GitError(
                            f"failed to fetch remote {shown}: {err.message}", err.output
                        ) from err
                    await self._renew(folder)
                    await self._fetch(bare)
                await self._check(bare)
                yield bare
        finally:
            await record.release()

    async def _renew(self, folder: Path) -> None:
        """Forget the repository: tags moved, or a branch became a folder of branches."""
        import shutil

        from torana.core.pool import run_blocking

        await run_blocking(shutil.rmtree, folder / "repository")

    async def _fetch(self, bare: GitCommand) -> None:
        resolved = self._resolved
        assert bare.git_dir is not None
        if not (bare.git_dir / "HEAD").exists():
            await create(bare, is_sha256=len(resolved.sha) == 64)
        is_whole = not self._options.is_bundled or not (bare.git_dir / "shallow").exists()
        if is_whole and is_sha(self.tip):
            if await bare.succeeds("cat-file", "-e", f"{self.tip}^{{commit}}"):
                return
        (bare.git_dir / "shallow.lock").unlink(missing_ok=True)  # left by one that was killed
        async with self._source() as remote:
            await self._fetch_from(bare, remote)

    async def _fetch_from(self, bare: GitCommand, remote: str) -> None:
        resolved = self._resolved
        if not is_sha(self.tip):
            local = f"+{resolved.name}:{self._local_ref}"
            await bare.run("fetch", "--depth=1", "--no-tags", remote, local)
            found = await bare.run("rev-parse", self._local_ref)
            if found.strip() == resolved.sha:
                return
            # The ref has moved on since it was looked up: this build has seen the older commit.
            if not await bare.succeeds("cat-file", "-e", resolved.sha):
                await self._fetch_commit(bare, remote, resolved.sha)
            await bare.run("update-ref", "--no-deref", self._local_ref, resolved.sha)
        elif self._options.is_fetched_by_commit and not self._options.is_bundled:
            await bare.run("fetch", "--depth=1", "--no-tags", remote, self.tip)
        else:
            await self._fetch_commit(bare, remote, self.tip)

    async def _fetch_commit(self, bare: GitCommand, remote: str, sha: str) -> None:
        assert bare.git_dir is not None
        unshallow = ["--unshallow"] if (bare.git_dir / "shallow").exists() else []
        heads = "+refs/heads/*:refs/remotes/origin/*"
        try:
            await bare.run("fetch", "--tags", "--force", *unshallow, remote, sha)
        except GitError:
            # Some servers give only what their refs lead to.
            await bare.run("fetch", "--tags", "--force", *unshallow, remote, heads)
        if not await bare.succeeds("cat-file", "-e", f"{sha}^{{commit}}"):
            await bare.run("fetch", "--tags", "--force", remote, heads)
        if not await bare.succeeds("cat-file", "-e", f"{sha}^{{commit}}"):
            raise GitError(
                f"fetched ref {self._options.ref} does not match expected commit {sha} and commit "
                "can not be found in the repository",
                "",
            )

    @property
    def _local_ref(self) -> str:
        """Where a fetched ref is kept: among tags, so that later fetches offer it."""
        name = self._resolved.name
        return name if name.startswith("refs/tags/") else f"refs/tags/{self.tip}"

    async def _check(self, bare: GitCommand) -> None:
        checksum = self._options.checksum
        if not checksum:
            return
        tip = self.tip if is_sha(self.tip) else self._local_ref
        found = (await bare.run("rev-parse", tip)).strip()
        peeled = (await bare.run("rev-parse", f"{tip}^{{}}")).strip()
        if not (found.startswith(checksum) or peeled.startswith(checksum)):
            got = found if found == peeled else f"{found} or {peeled}"
            raise GitChecksumError(f"expected checksum to match {checksum}, got {got}")


def _is_stuck(err: GitError) -> bool:
    return "would clobber existing tag" in err.output or "unable to update local ref" in err.output
