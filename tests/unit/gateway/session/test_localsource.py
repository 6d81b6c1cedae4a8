"""`local://` from sessions: what is kept, what is sent again, who may use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.core.cache.stores import Store
from tests.unit.gateway.session.files.trees import Resources, listing, make_tree

from torana.core.cache.local import LocalTree
from torana.core.cache.ref import Selector, Tree
from torana.core.errors import UserError
from torana.core.ops.source import SourceRequest, SourceServices
from torana.gateway.session.filesync import FileSync, FolderNotOfferedError
from torana.gateway.session.local import LocalSession
from torana.gateway.session.localsource import SessionLocalSource
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import NoSessionError, SessionLostError


class Statuses:
    """Progress of a test."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, bool]] = []

    def log(self, stream: int, data: bytes) -> None: ...

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        self.told.append((id, current, done))


class Setup:
    """A store, a client with one folder, and what was sent of it."""

    def __init__(self, folder: Path) -> None:
        (folder / "root").mkdir()
        self.store = Store(folder / "root")
        self.folder = folder / "source"
        make_tree(self.folder)
        self.sessions = SessionManager(wait_s=0.01)
        self.sent = 0
        self.progress = Statuses()
        services = SimpleNamespace(refs=self.store.refs, progress=self.progress)
        self.services = cast("SourceServices", services)

    def client(self, id: str, shared_key: str = "key", *names: str) -> LocalSession:
        folders = {name: self.folder for name in names or ("context",)}
        return LocalSession([FileSync(folders, self._count)], id=id, shared_key=shared_key)

    def _count(self, size: int) -> None:
        self.sent += size

    async def build(self, *ids: str, name: str = "context", **attrs: str) -> Tree:
        """Take the source once, as a build does."""
        request = SourceRequest(
            scheme="local",
            rest=name,
            attrs={f"local.{key}": text for key, text in attrs.items()},
        )
        source = SessionLocalSource(self.sessions, ids)
        tree = await source.open(request, self.services).snapshot()
        assert tree is not None
        return tree


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.store.die()


def folder_of(tree: Tree) -> Path:
    assert isinstance(tree, LocalTree)
    return tree.folder


async def test_a_second_build_gets_only_what_has_changed(setup: Setup) -> None:
    with setup.sessions.registered(setup.client("one")):
        first = await setup.build("one")
        assert listing(folder_of(first)) == listing(setup.folder)
        await first.release()
    total = setup.sent
    assert (
        total
        == sum(
            path.stat().st_size
            for path in setup.folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        - 4
    )
    (setup.folder / "a.txt").write_bytes(b"changed!")
    with setup.sessions.registered(setup.client("two")):
        second = await setup.build("two")
    assert setup.sent == total + len(b"changed!")
    assert folder_of(second) == folder_of(first)
    assert listing(folder_of(second)) == listing(setup.folder)
    assert setup.progress.told[-1] == ("transferring context:", 8, True)
    (usage,) = setup.store.upkeep.disk_usage(["type==source.local"])
    assert usage.description == "local source for context"
    await second.release()


async def test_a_folder_in_use_is_left_alone(setup: Setup) -> None:
    with setup.sessions.registered(setup.client("one")):
        first = await setup.build("one")
        handle = first.clone()
        await first.release()
        await first.release()  # again it does nothing
        second = await setup.build("one")
        assert folder_of(second) != folder_of(first)
        await handle.release()
        third = await setup.build("one")
        assert folder_of(third) == folder_of(first)
        for tree in (second, third):
            await tree.release()


async def test_the_digest_is_that_of_the_folder_itself(setup: Setup) -> None:
    selector = Selector(path="/")
    with setup.sessions.registered(setup.client("one")):
        tree = await setup.build("one")
        other = tree.clone()
        digest = await tree.content_digest([selector])
        assert await other.content_digest([selector]) == digest
    own = LocalTree(setup.folder, manager=setup.store.refs)
    assert await own.content_digest([selector]) == digest


@pytest.mark.parametrize(
    "change",
    [
        {"shared_key": "other"},
        {"name": "second"},
        {"sharedkeyhint": "hint"},
        {"excludepatterns": '["big"]'},
        {"metadatatransfer": "true"},
    ],
)
async def test_what_differs_is_kept_apart(setup: Setup, change: dict[str, str]) -> None:
    shared_key = change.pop("shared_key", "key")
    with setup.sessions.registered(setup.client("one", "key", "context", "second")):
        first = await setup.build("one")
        await first.release()
    with setup.sessions.registered(setup.client("two", shared_key, "context", "second")):
        second = await setup.build("two", **cast("Any", change))
        await second.release()
    assert folder_of(second) != folder_of(first)


async def test_filters_reach_the_client(setup: Setup) -> None:
    with setup.sessions.registered(setup.client("one")):
        tree = await setup.build("one", followpaths=json.dumps(["link"]))
        assert sorted(listing(folder_of(tree))) == ["a", "a/b", "link"]
        stats = await setup.build(
            "one", metadatatransfer="true", metadatatransferexclude=json.dumps(["a.txt"])
        )
        assert sorted(listing(folder_of(stats))) == [".fsutil-metadata", "a.txt"]


async def test_sessions_are_tried_in_turn(setup: Setup) -> None:
    with (
        setup.sessions.registered(setup.client("none", "key", "other")),
        setup.sessions.registered(setup.client("some", "key", "context", "pre-context")),
    ):
        for attrs in ({}, {"session": "none"}, {"session": "gone"}, {"session": "pre:some"}):
            tree = await setup.build("none", "some", **attrs)
            await tree.release()
        with pytest.raises(FolderNotOfferedError, match="no access allowed"):
            await setup.build("none", name="secret")
        with pytest.raises(NoSessionError):
            await setup.build(session="gone")


async def test_a_session_is_needed(setup: Setup) -> None:
    source = SessionLocalSource(setup.sessions, [])
    request = SourceRequest(scheme="local", rest="context")
    with pytest.raises(UserError, match="without session"):
        await source.open(request, setup.services).cache_key(0)


async def test_the_key_names_the_session(setup: Setup) -> None:
    request = SourceRequest(scheme="local", rest="context")
    keys = [
        (
            await SessionLocalSource(setup.sessions, ids).open(request, setup.services).cache_key(0)
        ).key
        for ids in (["one"], ["one", "two"], ["two"])
    ]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].startswith("session:context:")


async def test_a_client_that_dies_leaves_the_folder_to_the_next(setup: Setup) -> None:
    client = setup.client("one")

    def stop(size: int) -> None:
        client.close()

    dying = LocalSession([FileSync({"context": setup.folder}, stop)], id="two", shared_key="key")
    before = Resources.now()
    with setup.sessions.registered(dying):
        client = dying
        with pytest.raises(SessionLostError):
            await setup.build("two")
    of_the_store = ("torana.db", "/locks/")
    assert not [x for x in before.leaked() if not any(part in str(x) for part in of_the_store)]
    with setup.sessions.registered(setup.client("three")):
        tree = await setup.build("three")
        assert listing(folder_of(tree)) == listing(setup.folder)
