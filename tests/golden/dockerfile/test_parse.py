"""The parser against BuildKit's own test files and the measured rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.golden.dockerfile.rows import FIXTURES, rows

from torana.core.errors import BuildFileError
from torana.frontends.dockerfile.heredoc import Heredoc, parse_heredoc
from torana.frontends.dockerfile.parser import LocatedError, Node, parse
from torana.frontends.dockerfile.quoting import go_quote


def _folders(name: str) -> list[Any]:
    return [
        pytest.param(path, id=path.name) for path in sorted((FIXTURES / "parser" / name).iterdir())
    ]


def _dump(node: Node) -> str:
    out = f"({node.name}"
    if node.flags:
        out += f" [{' '.join(go_quote(flag) for flag in node.flags)}]"
    if node.child is not None:
        out += f" {_dump(node.child)}"
    return out + "".join(f" {go_quote(arg)}" for arg in node.args) + ")"


@pytest.mark.parametrize("folder", _folders("testfiles"))
def test_file(folder: Any) -> None:
    tree = parse((folder / "Dockerfile").read_bytes())
    dump = "".join(f"{_dump(node)}\n" for node in tree.nodes)
    assert dump == (folder / "result").read_text()


@pytest.mark.parametrize("folder", _folders("testfiles-negative"))
def test_negative_file(folder: Any) -> None:
    with pytest.raises(BuildFileError):
        parse((folder / "Dockerfile").read_bytes())


def test_lines_of_a_file() -> None:
    folder = FIXTURES / "parser" / "testfile-line"
    tree = parse((folder / "Dockerfile").read_bytes())
    expected = json.loads((folder / "expected-lines.json").read_bytes())
    found = [[node.first, node.last] for node in tree.nodes]
    assert found == [list(lines) for lines in expected["instructions"]]
    assert [found[0][0], found[-1][1]] == list(expected["root"])


def _heredoc(heredoc: Heredoc) -> dict[str, Any]:
    return {
        "name": heredoc.name,
        "fd": heredoc.fd,
        "expand": heredoc.expand,
        "chomp": heredoc.chomp,
    }


def _row(node: Node, *, is_inner: bool = False) -> dict[str, Any]:
    out: dict[str, Any] = {"value": node.word, "original": node.original}
    if node.flags:
        out["flags"] = list(node.flags)
    args: list[Any] = list(node.args)
    if node.child is not None:
        args = [_row(node.child, is_inner=True)]
    if args:
        out["args"] = args
    if node.is_array:
        out["json"] = True
    if not is_inner:
        out["lines"] = [node.first, node.last]
    if node.comments:
        out["comments"] = list(node.comments)
    if node.heredocs:
        out["heredocs"] = [
            {**_heredoc(heredoc), "content": heredoc.content} for heredoc in node.heredocs
        ]
    return out


@pytest.mark.parametrize("row", rows("parse.json"))
def test_parse(row: dict[str, Any]) -> None:
    data = row["dockerfile"].encode()
    if "error" in row:
        with pytest.raises(BuildFileError) as caught:
            parse(data)
        assert caught.value.message == row["error"]["message"]
        ranges = caught.value.ranges if isinstance(caught.value, LocatedError) else ()
        lines = [[span.start.line, span.end.line] for span in ranges]
        assert lines == (row["error"].get("lines") or [[]])[0]
        return
    tree = parse(data)
    assert [_row(node) for node in tree.nodes] == row["nodes"]
    assert tree.escape == row["escape"]
    assert [tree.nodes[0].first, tree.nodes[-1].last] == row["lines"]
    warnings = [
        {"short": f"Empty continuation line found in: {found.text}", "line": found.line}
        for found in tree.empty_continuations
    ]
    assert [
        {"short": entry["short"], "line": entry["line"]} for entry in row.get("warnings") or ()
    ] == warnings


@pytest.mark.parametrize("row", rows("heredoc.json"))
def test_heredoc_word(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(BuildFileError):
            parse_heredoc(row["word"])
        return
    found = parse_heredoc(row["word"])
    assert (None if found is None else _heredoc(found)) == row["heredoc"]
