"""Syntax lines in the comments of many languages."""

from __future__ import annotations

import pytest

from torana.frontends.kit.syntax import find_any_syntax, find_syntax


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("# syntax=just\n", "just", 1),
        ("#!/usr/bin/env torana\n# syntax=just\n", "just", 2),
        ("// syntax = just --flag\n", "just", 1),
        ('{"syntax": "just"}', "just", 0),
    ],
)
def test_as_buildkit_finds_them(text: str, image: str, line: int) -> None:
    for found in (find_syntax(text.encode()), find_any_syntax(text.encode())):
        assert found is not None
        assert (found.image, found.line) == (image, line)


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("; syntax=just\n", "just", 1),
        (";; syntax=just\n", "just", 1),
        ("-- syntax=just\r\nselect 1\n", "just", 1),
        ("#!/usr/bin/lua\n-- syntax=./x.py:F\n", "./x.py:F", 2),
        ("syntax: just\nimage: x\n", "just", 1),
        ("# a comment\n\n---\nsyntax: 'acme/just:1' # why\n", "acme/just:1", 4),
        ('#!/x\nsyntax: "pypi:a==1"\n', "pypi:a==1", 2),
    ],
)
def test_ours(text: str, image: str, line: int) -> None:
    assert find_syntax(text.encode()) is None
    found = find_any_syntax(text.encode())
    assert found is not None
    assert (found.image, found.line) == (image, line)


@pytest.mark.parametrize(
    "text",
    [
        "FROM x\nRUN <<E\nsyntax: just\nE\n",
        "image: x\nsyntax: just\n",
        "syntax:just\n",
        "syntax: \n",
        " syntax: just\n",
        "- syntax=just\n",
        "",
    ],
)
def test_none(text: str) -> None:
    assert find_any_syntax(text.encode()) is None
