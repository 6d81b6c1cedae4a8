"""Bundles: a commit put into one file, and taken from it again, without the remote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.registry.servers import FaultyRegistry
from tests.integration.sources.conftest import Store
from tests.integration.sources.test_git import TREE, Remote, files, look, remote

from torana.core.errors import NotFoundError
from torana.core.ops.source import SourceRequest, SourceServices
from torana.core.worker import Worker
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings
from torana.plugins.sources.bloborigins import BlobOrigins
from torana.plugins.sources.git import GitInstance, GitSource
from torana.plugins.sources.gitcommand import GitError
from torana.plugins.sources.gitoptions import GitChecksumError, GitRefNotFoundError
from torana.plugins.sources.layout import of_folders

__all__ = ["remote"]  # a fixture

pytestmark = pytest.mark.needs("git")
NOWHERE = "git://127.0.0.1:1/project.git"


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    made = FaultyRegistry()
    yield made
    made.close()


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    (tmp_path / "layout/blobs/sha256").mkdir(parents=True)
    return tmp_path / "layout"


Open = Callable[..., GitInstance]


@pytest.fixture
def open_git(layout: Path) -> Iterator[Open]:
    """Opens a git source whose bundles come from the registry or the layout called `store`."""
    access = RegistryAccess(RegistrySettings(), NoCredentials())
    source = GitSource(BlobOrigins(access=access, find_layout=of_folders({"store": layout})))

    def run(services: SourceServices, url: str, fragment: str = "", **attrs: str) -> GitInstance:
        named = {f"git.{name}": value for name, value in attrs.items() if "." not in name}
        named |= {name: value for name, value in attrs.items() if "." in name}
        rest = "host/project.git" + (f"#{fragment}" if fragment else "")
        attributes = {"git.fullurl": url, **named}
        return source.open(SourceRequest(scheme="git", rest=rest, attrs=attributes), services)

    yield run
    access.pools.close()


async def bundled(open_git: Open, store: Store, remote: Remote, fragment: str) -> bytes:
    """Give a bundle of a ref; sees that it is the only file."""
    source = open_git(store.build(), remote.url, fragment, checkoutbundle="true")
    key = await source.cache_key(0)
    assert "(bundle)" in key.key

    def read(root: Path) -> bytes:
        assert [path.name for path in root.iterdir()] == ["bundle"]
        assert (root / "bundle").stat().st_mode & 0o777 == 0o644
        return (root / "bundle").read_bytes()

    return await look(source, read)


def elsewhere(tmp_path: Path) -> Iterator[Store]:
    worker = Worker(tmp_path / "other")
    yield Store(worker)
    worker.close()


other_store = pytest.fixture(elsewhere)


@pytest.mark.parametrize("fragment", ["", "main", "light", "v1", "refs/tags/v1", "SHA"])
@pytest.mark.parametrize("where", ["registry", "layout"])
async def test_there_and_back(
    open_git: Open,
    store: Store,
    other_store: Store,
    remote: Remote,
    registry: FaultyRegistry,
    layout: Path,
    fragment: str,
    where: str,
) -> None:
    first = remote.first
    remote.write("readme", "two\n")
    second = remote.commit("second")
    remote.push()
    commit = second if fragment in ("", "main", "SHA") else first
    fragment = fragment.replace("SHA", second)
    # A checkout before makes the shared repository a shallow one.
    await look(open_git(store.build(), remote.url, "main"), files)
    data = await bundled(open_git, store, remote, fragment)

    blob: dict[str, Any] = registry.blob(data)
    digest = blob["digest"]
    if where == "registry":
        attrs = {"bundle": f"docker-image+blob://{registry.host}/team/code@{digest}"}
    else:
        (layout / "blobs/sha256" / digest.partition(":")[2]).write_bytes(data)
        attrs = {"bundle": f"oci-layout+blob://host/any@{digest}", "oci.store": "store"}
    # The ref has the name in the bundle that it had at the remote.
    source = open_git(other_store.build(), NOWHERE, fragment, checksum=commit, **attrs)
    key = await source.cache_key(0)
    same = await open_git(store.build(), remote.url, fragment).cache_key(0)
    assert (key.key, key.pin) == (same.key, same.pin)
    expected = TREE if commit == first else {**TREE, "readme": "two\n"}
    assert await look(source, files) == expected
    pinned = open_git(other_store.build(), NOWHERE, "", checksum=commit, keepgitdir="true", **attrs)
    assert await look(pinned, lambda root: (root / ".git").is_dir())


async def test_a_pinned_commit_is_fetched_when_needed(
    open_git: Open, store: Store, other_store: Store, remote: Remote, registry: FaultyRegistry
) -> None:
    digest = registry.blob(await bundled(open_git, store, remote, "main"))["digest"]
    attrs = {"bundle": f"docker-image+blob://{registry.host}/team/code@{digest}"}
    source = open_git(other_store.build(), NOWHERE, checksum=remote.first, **attrs)
    await source.cache_key(0)
    assert not registry.requests
    assert await look(source, files) == TREE
    count = sum(registry.requests.values())
    # Now it is here.
    again = open_git(other_store.build(), NOWHERE, "", checksum=remote.first, **attrs)
    assert await look(again, files) == TREE
    assert sum(registry.requests.values()) == count


async def test_what_is_not_in_it(
    open_git: Open, store: Store, other_store: Store, remote: Remote, registry: FaultyRegistry
) -> None:
    digest = registry.blob(await bundled(open_git, store, remote, "main"))["digest"]
    attrs = {"bundle": f"docker-image+blob://{registry.host}/team/code@{digest}"}

    def opened(fragment: str, **more: str) -> GitInstance:
        return open_git(other_store.build(), NOWHERE, fragment, **{**attrs, **more})

    with pytest.raises(GitError, match=f"commit {'a' * 40} not found in bundle"):
        await opened("", checksum="a" * 40).snapshot()
    with pytest.raises(GitRefNotFoundError, match="does not contain ref v1"):
        await opened("v1", checksum=remote.first).cache_key(0)
    with pytest.raises(GitChecksumError):
        await opened(remote.first, checksum="b" * 40).cache_key(0)
    nothing = registry.blob(b"no bundle")["digest"]
    broken = f"docker-image+blob://{registry.host}/team/code@{nothing}"
    with pytest.raises(GitError, match="failed to import git bundle"):
        await opened("main", checksum=remote.first, bundle=broken).cache_key(0)
    missing = broken.replace(nothing, "sha256:" + "e" * 64)
    with pytest.raises(NotFoundError, match=registry.host):
        await opened("main", checksum=remote.first, bundle=missing).cache_key(0)
    assert not other_store.unfinished()
