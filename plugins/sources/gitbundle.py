"""Git bundles: a history in one file, taken from a blob in place of a remote, or made of a commit.

A bundle is imported into a repository of its own first, which then stands for the remote: refs are
listed and fetched as from any other.

Spec: reference of sources, section 5, `git.bundle` and `git.checkoutbundle`; gitformat-bundle.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.errors import UserError
from torana.core.oci.digest import Digest
from torana.core.oci.reference import ImageReference, parse_reference
from torana.core.ops.source import InvalidSourceError
from torana.core.pool import run_blocking
from torana.core.records import dataclass
from torana.plugins.sources.bloborigins import (
    LAYOUT_BLOB,
    REGISTRY_BLOB,
    BlobOrigins,
    fetch_blob,
)
from torana.plugins.sources.gitcommand import GitCommand, GitError, is_sha
from torana.plugins.sources.layout import store_name

BUNDLE_NAME: Final = "bundle"
_FALLBACK_REF: Final = "refs/heads/main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's blob; `store` and `session_id` are those of a layout."""

    locator: str
    scheme: str
    reference: ImageReference
    digest: Digest
    store: str = ""
    session_id: str = ""


def parse_bundle(attrs: Mapping[str, str]) -> Bundle | None:
    """Read `git.bundle`, a locator `SCHEME://REFERENCE@DIGEST`; None if there is none.

    Raises:
        InvalidSourceError: it is malformed, or no checksum says which commit is wanted.
    """
    text = attrs.get("git.bundle", "")
    if not text:
        return None
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise InvalidSourceError(f"failed to parse git.bundle locator `{text}`: missing scheme")
    if scheme not in (REGISTRY_BLOB, LAYOUT_BLOB):
        raise InvalidSourceError(
            f"git.bundle locator scheme `{scheme}` is not supported",
            hint=f"`{REGISTRY_BLOB}://REPOSITORY@DIGEST` or `{LAYOUT_BLOB}://STORE@DIGEST`",
        )
    try:
        reference = parse_reference(rest)
    except UserError as err:
        raise InvalidSourceError(
            f"failed to parse git.bundle locator `{text}`: {err.message}"
        ) from err
    if reference.digest is None or reference.digest.algorithm != "sha256":
        raise InvalidSourceError(f"git.bundle locator `{text}` has no sha256 digest")
    if not attrs.get("git.checksum"):
        raise InvalidSourceError("git.bundle requires git.checksum to be set")
    return Bundle(
        locator=text,
        scheme=scheme,
        reference=reference,
        digest=reference.digest,
        store=attrs.get("oci.store") or store_name(rest),
        session_id=attrs.get("oci.session", ""),
    )


@asynccontextmanager
async def imported(
    bundle: Bundle, git: GitCommand, origins: BlobOrigins, content: ContentStore, commit: str
) -> AsyncIterator[GitCommand]:
    """Give git on a repository that has what is in a bundle; for a while.

    Raises:
        ToranaError: the blob cannot be had.
        GitError: it is no bundle, or lacks `commit`, which may be cut short.
    """
    origin = origins.open(bundle.scheme, store=bundle.store, session_id=bundle.session_id)
    await fetch_blob(origin, bundle.reference, bundle.digest, content)
    file = str(content.path(bundle.digest).absolute())  # git runs elsewhere
    with tempfile.TemporaryDirectory(prefix="torana-bundle-") as text:
        staged = git.at(git_dir=Path(text) / "repository")
        try:
            listing = await git.run("ls-remote", "--", file)
            await create(staged, is_sha256=len(listing.partition("\t")[0]) == 64)
            await staged.run("fetch", "-q", "--", file, "+refs/*:refs/*")
        except GitError as err:
            raise GitError(
                f"failed to import git bundle {bundle.reference}: {err.message}", err.output
            ) from err
        if not await staged.succeeds("cat-file", "-e", f"{commit}^{{commit}}"):
            raise GitError(f"commit {commit} not found in bundle {bundle.reference}", "")
        # Commits are asked for by id, though they need not be at the end of a branch.
        await staged.run("config", "uploadpack.allowAnySHA1InWant", "true")
        yield staged


async def create(bare: GitCommand, *, is_sha256: bool) -> None:
    """Make an empty bare repository."""
    assert bare.git_dir is not None
    bare.git_dir.mkdir(exist_ok=True)
    arguments = ["--object-format=sha256"] if is_sha256 else []
    await bare.run("init", "-q", "--bare", *arguments)


async def write_bundle(bare: GitCommand, name: str, sha: str, folder: Path) -> None:
    """Write the file `bundle` with one ref and its whole history, which `bare` must have."""
    assert bare.git_dir is not None
    ref = target_ref(name)
    with tempfile.TemporaryDirectory(prefix="torana-bundle-") as text:
        # The ref's name may stand for something else in the shared repository.
        own = bare.at(git_dir=Path(text) / "repository")
        assert own.git_dir is not None
        await create(own, is_sha256=len(sha) == 64)
        alternates = own.git_dir / "objects/info/alternates"
        alternates.write_text(f"{bare.git_dir / 'objects'}\n")
        tip = sha if ref.startswith("refs/tags/") else f"{sha}^{{commit}}"
        await own.run("update-ref", ref, (await own.run("rev-parse", tip)).strip())
        made = Path(text) / BUNDLE_NAME
        await own.run("bundle", "create", "-q", str(made), ref)
        await run_blocking(shutil.copyfile, made, folder / BUNDLE_NAME)
    (folder / BUNDLE_NAME).chmod(0o644)


def target_ref(name: str) -> str:
    """Give the name that a ref has in a bundle: a branch or a tag; `main` for a bare commit."""
    if not name or is_sha(name):
        return _FALLBACK_REF
    if name.startswith(("refs/tags/", "refs/heads/")):
        return name
    return f"refs/heads/{name.removeprefix('refs/').removeprefix('heads/')}"
