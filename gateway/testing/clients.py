"""`ClientSuite`: what every `Client` must do, however far the engine is away.

Subclass it with a fixture `client` that gives the client of a frontend with the options
`{"one": "1", "two": "a=b"}` and the input `given` (see `given_input`).

The suite needs pytest, which is no dependency of the package: import it from tests only.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable

import pytest

from torana.core.errors import (
    NotFoundError,
    Position,
    SourceRange,
    ToranaError,
)
from torana.core.llb import SourceInfo, SourceLocation, mkdir, mkfile, rm, scratch
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.gateway.client.client import Client, Reference, SolveRequest, Warning

OPTIONS = {"one": "1", "two": "a=b"}


def given_input() -> Definition:
    """Give the definition of the input `given`."""
    return scratch().file(mkfile("/given", b"input")).marshal()


def tree() -> Definition:
    """Give a small tree with some kinds of files; needs no source and no runtime."""
    actions = (
        mkfile("/text", b"0123456789", mode=0o640)
        .mkdir("/folder", mode=0o751)
        .mkfile("/folder/b.txt", b"b")
        .mkfile("/folder/a.txt", b"a")
        .mkfile("/folder/c.md", b"c")
        .symlink("text", "/link")
        .symlink("/folder/../../../text", "/far")
    )
    return scratch().file(actions).marshal()


def failing() -> Definition:
    """Give a definition whose only step fails, with its place in a build file."""
    info = SourceInfo("build.file", b"first\nsecond\nthird\n", "Text")
    place = SourceLocation(info, (SourceRange.lines("build.file", 2),))
    return scratch().file(rm("/absent"), location=(place,)).marshal()


async def solved(client: Client, definition: Definition, *, evaluate: bool = False) -> Reference:
    """Solve a definition that is not scratch."""
    result = await client.solve(SolveRequest(definition=definition, evaluate=evaluate))
    assert result.ref is not None
    return result.ref


class ClientSuite:
    """Solving, reading, and what a frontend is told."""

    async def test_what_a_frontend_is_told(self, client: Client) -> None:
        assert dict(client.options) == OPTIONS
        assert client.session_id
        assert {"file.base", "exec.meta.base", "source.local"} <= client.llb_caps
        assert {"solve.base", "readfile", "return", "gateway.warnings"} <= client.gateway_caps
        (worker, *_) = client.workers
        assert worker.platforms[0].os == "linux"
        inputs = await client.inputs()
        assert list(inputs) == ["given"]
        assert inputs["given"].ops == given_input().ops

    async def test_input_is_solved(self, client: Client) -> None:
        reference = await solved(client, (await client.inputs())["given"])
        assert await reference.read_file("/given") == b"input"

    async def test_nothing_is_scratch(self, client: Client) -> None:
        result = await client.solve(SolveRequest())
        assert result.ref is None
        assert not result.refs
        assert (await client.solve(SolveRequest(definition=Definition()))).ref is None

    async def test_definition_and_frontend_at_once(self, client: Client) -> None:
        request = SolveRequest(definition=tree(), frontend="dockerfile.v0")
        with pytest.raises(ToranaError, match="both Definition and Frontend"):
            await client.solve(request)

    async def test_invalid_definition(self, client: Client) -> None:
        definition = Definition(ops=(b"\xff\xff",))
        with pytest.raises(ToranaError):
            await client.solve(SolveRequest(definition=definition, evaluate=True))

    async def test_unknown_frontend(self, client: Client) -> None:
        with pytest.raises(ToranaError, match="nowhere"):
            await client.solve(SolveRequest(frontend="nowhere.v0"))

    async def test_reference_tells_its_definition(self, client: Client) -> None:
        wanted = tree()
        definition = await (await solved(client, wanted)).definition()
        assert definition is not None
        assert definition.ops == wanted.ops

    async def test_read_file(self, client: Client) -> None:
        reference = await solved(client, tree())
        assert await reference.read_file("/text") == b"0123456789"
        assert await reference.read_file("text") == b"0123456789"
        assert await reference.read_file("/text", offset=7) == b"789"
        assert await reference.read_file("/text", offset=2, length=3) == b"234"
        assert await reference.read_file("/text", length=0) == b""
        assert await reference.read_file("/text", offset=20) == b""
        assert await reference.read_file("/link") == b"0123456789"
        assert await reference.read_file("/far") == b"0123456789"

    async def test_read_file_that_is_none(self, client: Client) -> None:
        reference = await solved(client, tree())
        with pytest.raises(NotFoundError, match="no such file or directory"):
            await reference.read_file("/absent")
        with pytest.raises(ToranaError):
            await reference.read_file("/folder")

    async def test_read_dir(self, client: Client) -> None:
        reference = await solved(client, tree())
        names = [entry.path for entry in await reference.read_dir("/folder")]
        assert names == ["a.txt", "b.txt", "c.md"]
        found = await reference.read_dir("/folder", include="*.txt")
        assert [(entry.path, entry.size) for entry in found] == [("a.txt", 1), ("b.txt", 1)]
        top = {entry.path: entry for entry in await reference.read_dir("/")}
        assert sorted(top) == ["far", "folder", "link", "text"]
        assert top["link"].linkname == "text"
        assert stat.S_ISLNK(top["link"].mode)
        with pytest.raises(NotFoundError):
            await reference.read_dir("/absent")

    async def test_stat(self, client: Client) -> None:
        reference = await solved(client, tree())
        text = await reference.stat("/text")
        assert (text.path, text.mode, text.size) == ("text", stat.S_IFREG | 0o640, 10)
        assert (text.uid, text.gid) == (0, 0)
        folder = await reference.stat("/folder")
        assert folder.mode == stat.S_IFDIR | 0o751
        assert (await reference.stat("/link")).size == 10  # of what it leads to
        with pytest.raises(NotFoundError):
            await reference.stat("/folder/absent")

    async def test_failure_comes_when_it_is_needed(self, client: Client) -> None:
        reference = await solved(client, failing())
        attempts: tuple[Callable[[str], Awaitable[object]], ...] = (
            lambda _: reference.evaluate(),
            reference.read_file,
            reference.read_dir,
            reference.stat,
        )
        for attempt in attempts:
            with pytest.raises(ToranaError) as caught:
                await attempt("/x")
            _check_place(caught.value)

    async def test_failure_comes_at_once_if_asked_for(self, client: Client) -> None:
        with pytest.raises(ToranaError) as caught:
            await client.solve(SolveRequest(definition=failing(), evaluate=True))
        _check_place(caught.value)

    async def test_many_at_once(self, client: Client) -> None:
        definitions = [scratch().file(mkfile("/n", b"%d" % n)).marshal() for n in range(20)]
        references = await asyncio.gather(*(solved(client, each) for each in definitions))
        found = await asyncio.gather(*(each.read_file("/n") for each in references))
        assert found == [b"%d" % n for n in range(20)]

    async def test_results_are_built_on(self, client: Client) -> None:
        from torana.core.llb import from_definition

        reference = await solved(client, tree())
        definition = await reference.definition()
        assert definition is not None
        more = from_definition(definition).file(mkdir("/more")).marshal()
        names = [entry.path for entry in await (await solved(client, more)).read_dir("/")]
        assert names == ["far", "folder", "link", "more", "text"]

    async def test_warn(self, client: Client) -> None:
        definition = tree()
        await solved(client, definition, evaluate=True)
        await client.warn(
            Warning(
                vertex=Digest.of(definition.ops[0]),
                short="beware",
                detail=("of", "this"),
                url="https://example.org",
                ranges=(SourceRange("f", Position(1), Position(2)),),
                data=b"one\ntwo\n",
            )
        )


def _check_place(error: ToranaError) -> None:
    assert error.sources, "the place in the build file is known"
    (excerpt, *_) = error.sources
    assert excerpt.filename == "build.file"
    assert excerpt.data == b"first\nsecond\nthird\n"
    assert [(r.start.line, r.end.line) for r in excerpt.ranges] == [(2, 2)]
