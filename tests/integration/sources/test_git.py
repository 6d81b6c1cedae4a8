"""The git source against real servers on loopback: git's own daemon, and plain files over http."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest
from tests.integration.sources.conftest import Store

from torana.core.cache.ref import RecordType
from torana.core.ops.source import SourceRequest, SourceServices
from torana.core.worker import Worker
from torana.plugins.sources.git import GitInstance, GitSource, InvalidSubdirError
from torana.plugins.sources.gitcommand import GitError
from torana.plugins.sources.gitoptions import GitChecksumError

pytestmark = pytest.mark.needs("git")
T = TypeVar("T")


class Remote:
    """A repository that is served, and a work tree to change it from."""

    def __init__(self, folder: Path, port: int) -> None:
        self.bare = folder / "served" / "project.git"
        self.work = folder / "work"
        self.port = port
        self.environment = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.invalid" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_DATE": "1700000000 +0000" for who in ("AUTHOR", "COMMITTER")},
        }
        self.bare.parent.mkdir()
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), cwd=folder)
        self.git("init", "-q", "-b", "main", str(self.work), cwd=folder)
        self.write("readme", "one\n")
        self.write("sub/dir/file", "deep\n")
        self.first = self.commit("first")
        self.git("tag", "light")
        self.git("tag", "-a", "v1", "-m", "version 1")
        self.push()

    @property
    def url(self) -> str:
        return f"git://127.0.0.1:{self.port}/project.git"

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],
            cwd=cwd or self.work,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self) -> None:
        self.git("push", "-q", "--force", str(self.bare), "+refs/*:refs/*")
        self.git("update-server-info", cwd=self.bare)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    remote = Remote(tmp_path, port)
    daemon = subprocess.Popen(
        [
            "git",
            "daemon",
            "--export-all",
            "--reuseaddr",
            "--listen=127.0.0.1",
            f"--port={port}",
            f"--base-path={remote.bare.parent}",
        ],
        env={**remote.environment, "GIT_CONFIG_COUNT": "1"}
        | {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield remote
    os.killpg(daemon.pid, 9)
    daemon.wait()


def instance(
    remote: Remote, services: SourceServices, fragment: str = "", url: str = "", **attrs: str
) -> GitInstance:
    named = {f"git.{name}": value for name, value in attrs.items()}
    named.setdefault("git.fullurl", url or remote.url)
    rest = "host/project.git" + (f"#{fragment}" if fragment else "")
    request = SourceRequest(scheme="git", rest=rest, attrs=named)
    return GitSource().open(request, services)


async def look(source: GitInstance, function: Callable[[Path], T]) -> T:
    tree = await source.snapshot()
    assert tree is not None
    with tree.mount() as root:
        value = function(root)
    await tree.release()
    return value


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(root).parts
    }


def checkouts(store: Store) -> int:
    records = store.worker.refs.records
    found = [records.get(id) for id in records.ids()]
    return [r.record_type for r in found if r is not None].count(RecordType.GIT_CHECKOUT)


TREE = {"readme": "one\n", "sub/dir/file": "deep\n"}


async def test_the_default_branch(store: Store, remote: Remote) -> None:
    source = instance(remote, store.build())
    key = await source.cache_key(0)
    assert (key.key, key.pin, key.is_last) == (remote.first, remote.first, True)
    assert await look(source, files) == TREE
    assert await look(source, lambda root: (root / ".git").exists()) is False
    assert checkouts(store) == 1


@pytest.mark.parametrize("fragment", ["main", "light", "v1", "refs/heads/main", "refs/tags/v1"])
async def test_names_of_the_same_commit_share_key_and_checkout(
    store: Store, remote: Remote, fragment: str
) -> None:
    await look(instance(remote, store.build(), "main"), files)
    source = instance(remote, store.build(), fragment)
    assert (await source.cache_key(0)).key == remote.first
    assert await look(source, files) == TREE
    assert checkouts(store) == 1


async def test_a_full_commit_needs_no_network_for_its_key(store: Store, remote: Remote) -> None:
    nowhere = instance(remote, store.build(), remote.first, url="git://127.0.0.1:1/x.git")
    assert (await nowhere.cache_key(0)).key == remote.first
    with pytest.raises(GitError, match=r"failed to fetch remote git://127\.0\.0\.1:1/x\.git"):
        await nowhere.snapshot()
    assert await look(instance(remote, store.build(), remote.first), files) == TREE


async def test_an_older_commit_after_a_shallow_fetch(store: Store, remote: Remote) -> None:
    remote.write("readme", "two\n")
    second = remote.commit("second")
    remote.push()
    assert (await look(instance(remote, store.build(), "main"), files))["readme"] == "two\n"
    assert await look(instance(remote, store.build(), remote.first), files) == TREE
    by_commit = {"fetchbycommit": "true", "checksum": second}
    again = await look(instance(remote, store.build(), **by_commit, keepgitdir="true"), files)
    assert again["readme"] == "two\n"


async def test_one_build_sees_one_commit(store: Store, remote: Remote) -> None:
    services = store.build()
    first = instance(remote, services, "main")
    assert (await first.cache_key(0)).key == remote.first
    remote.write("readme", "two\n")
    remote.git("commit", "-q", "-a", "--amend", "-m", "rewritten")
    remote.push()
    assert (await instance(remote, services, "main").cache_key(0)).key == remote.first
    # The branch no longer leads there; the server still has the commit by a tag.
    assert await look(first, files) == TREE
    assert (await look(instance(remote, store.build(), "main"), files))["readme"] == "two\n"


async def test_a_tag_that_moved_and_a_branch_that_became_a_folder(
    store: Store, remote: Remote
) -> None:
    remote.git("branch", "topic")
    remote.push()
    await look(instance(remote, store.build(), "topic"), files)
    await look(instance(remote, store.build(), remote.first), files)
    remote.write("readme", "two\n")
    remote.commit("second")
    remote.git("tag", "-f", "-a", "v1", "-m", "moved")
    remote.git("branch", "-D", "topic")
    remote.git("branch", "topic/one")
    remote.git("update-ref", "-d", "refs/heads/topic", cwd=remote.bare)
    remote.push()
    assert (await look(instance(remote, store.build(), "v1"), files))["readme"] == "two\n"
    assert (await look(instance(remote, store.build(), "topic/one"), files))["readme"] == "two\n"


async def test_checksums(store: Store, remote: Remote) -> None:
    short = remote.first[:8]
    assert await look(instance(remote, store.build(), "main", checksum=short), files) == TREE
    assert await look(instance(remote, store.build(), "v1", checksum=short), files) == TREE
    with pytest.raises(GitChecksumError, match=f"match abcd, got {remote.first}"):
        await instance(remote, store.build(), "main", checksum="abcd").cache_key(0)


async def test_subdirectories(store: Store, remote: Remote) -> None:
    os.symlink("sub", remote.work / "link")
    remote.commit("link")
    remote.push()
    source = instance(remote, store.build(), "main:sub/dir")
    assert (await source.cache_key(0)).key.endswith(":sub/dir")
    assert await look(source, files) == {"file": "deep\n"}
    assert await look(source, os.listdir) == ["file"]
    for wrong in ("missing", "readme", "link/dir", "sub/dir/file"):
        with pytest.raises(InvalidSubdirError, match=f"invalid subdir {wrong}"):
            await instance(remote, store.build(), f"main:{wrong}").snapshot()
    # `..` stays inside.
    assert "readme" in await look(instance(remote, store.build(), "main:../.."), files)
    assert store.unfinished() == set()


@pytest.mark.parametrize("fragment", ["main", "v1", ""])
async def test_the_repository_is_kept(store: Store, remote: Remote, fragment: str) -> None:
    source = instance(remote, store.build(), fragment, keepgitdir="true")
    key = await source.cache_key(0)
    assert ".git#refs/" in key.key

    def check(root: Path) -> list[str]:
        ask = partial(remote.git, "-c", "safe.directory=*", cwd=root)
        return [ask("rev-parse", "HEAD"), ask("status", "--porcelain"), ask("remote", "-v")]

    head, status, remotes = await look(source, check)
    assert head == remote.first
    assert status == ""
    assert remotes.split() == ["origin", remote.url, "(fetch)", "origin", remote.url, "(push)"]


async def test_commit_times(store: Store, remote: Remote) -> None:
    source = instance(remote, store.build(), "main", mtime="commit")
    times = await look(source, lambda root: {p.stat().st_mtime for p in [root, *root.rglob("*")]})
    assert times == {1_700_000_000}


async def test_modes_are_those_of_git(store: Store, remote: Remote) -> None:
    (remote.work / "tool").write_text("#!/bin/sh\n")
    (remote.work / "tool").chmod(0o700)
    remote.commit("tool")
    remote.push()
    source = instance(remote, store.build(), "main")
    modes = await look(
        source, lambda root: {n: (root / n).stat().st_mode & 0o777 for n in ("tool", "readme")}
    )
    assert modes == {"tool": 0o755, "readme": 0o644}


async def test_submodules(store: Store, remote: Remote, tmp_path: Path) -> None:
    other = tmp_path / "served" / "other.git"
    remote.git("clone", "-q", "--bare", str(remote.bare), str(other))
    url = remote.url.replace("project", "other")
    remote.git("submodule", "--quiet", "add", url, "lib")
    remote.commit("submodule")
    remote.push()
    source = instance(remote, store.build(), "main")
    found = await look(source, files)
    assert found["lib/readme"] == "one\n"
    assert await look(source, lambda root: (root / "lib/.git").exists()) is False
    without = instance(remote, store.build(), "main", skipsubmodules="true")
    assert "(skip-submodules)" in (await without.cache_key(0)).key
    assert "lib/readme" not in await look(without, files)


async def test_submodules_cannot_read_this_machine(store: Store, remote: Remote) -> None:
    remote.git("submodule", "--quiet", "add", str(remote.bare), "lib")
    remote.commit("submodule of a folder")
    remote.push()
    with pytest.raises(GitError, match="transport 'file' not allowed"):
        await instance(remote, store.build(), "main").snapshot()
    assert store.unfinished() == set()


async def test_hooks_and_settings_of_the_repository_do_nothing(
    store: Store, remote: Remote, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    for place in (remote.bare / "hooks", remote.work / "hooks"):
        place.mkdir(exist_ok=True)
        (place / "post-checkout").write_text(f"#!/bin/sh\ntouch {trap}\n")
        (place / "post-checkout").chmod(0o755)
    remote.write(".gitattributes", "readme filter=evil\n")
    remote.commit("trap")
    remote.push()
    for kept in ("true", ""):
        await look(instance(remote, store.build(), "main", keepgitdir=kept), files)
    assert not trap.exists()


async def test_a_missing_ref_and_repository(store: Store, remote: Remote) -> None:
    with pytest.raises(Exception, match="repository does not contain ref nothing"):
        await instance(remote, store.build(), "nothing").cache_key(0)
    gone = instance(remote, store.build(), "main", url=remote.url.replace("project", "gone"))
    with pytest.raises(GitError, match="failed to fetch remote"):
        await gone.cache_key(0)


async def test_tokens_over_http(store: Store, remote: Remote) -> None:
    """Plain files over http also show that a server without shallow fetches is coped with."""
    seen: list[str | None] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            if self.headers["Authorization"] is None:
                self.send_error(401)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=remote.bare.parent))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/project.git"
        attrs = {"authtokensecret": "GIT_AUTH_TOKEN", "authheadersecret": "GIT_AUTH_HEADER"}
        with pytest.raises(GitError, match="could not read Username"):
            await instance(remote, store.build(), "main", url=url, **attrs).cache_key(0)
        store.secrets.values["GIT_AUTH_TOKEN"] = b"planted\n"
        seen.clear()
        source = instance(remote, store.build(), "main", url=url, **attrs, keepgitdir="true")
        await source.cache_key(0)
        expected = b"basic " + base64.b64encode(b"x-access-token:planted")
        assert set(seen) == {expected.decode()}

        def leaks(root: Path) -> list[Path]:
            everything = [*root.rglob("*"), *store.worker.root.rglob("*")]
            return [
                path
                for path in everything
                if path.is_file()
                and (b"planted" in (data := path.read_bytes()) or expected in data)
            ]

        assert await look(source, leaks) == []
        assert b"planted" not in store.progress.printed
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_sha256_repositories(store: Store, remote: Remote, tmp_path: Path) -> None:
    work, bare = tmp_path / "wide", remote.bare.parent / "wide.git"
    init = ["init", "-q", "--object-format=sha256", "-b", "main"]
    remote.git(*init, str(work), cwd=tmp_path)
    remote.git(*init, "--bare", str(bare), cwd=tmp_path)
    (work / "file").write_text("wide\n")
    remote.git("add", "-A", cwd=work)
    remote.git("commit", "-q", "-m", "wide", cwd=work)
    remote.git("push", "-q", str(bare), "main", cwd=work)
    url = remote.url.replace("project", "wide")
    for kept in ("", "true"):
        source = instance(remote, store.build(), "main", url=url, keepgitdir=kept)
        assert len((await source.cache_key(0)).pin) == 64
        assert await look(source, files) == {"file": "wide\n"}


async def test_a_store_at_a_relative_path(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    worker = Worker(Path("relative"))
    assert await look(instance(remote, Store(worker).build(), keepgitdir="true"), files) == TREE
    assert await look(instance(remote, Store(worker).build(), "main:sub"), files)
    worker.close()
