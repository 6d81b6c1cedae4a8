"""Measured tables of the small readers: syntax lines, ignore files, git addresses."""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden.dockerfile.rows import rows, table

from torana.core.patterns import InvalidPatternError, PatternMatcher
from torana.frontends.kit.gitref import InvalidGitRefError, parse_git_ref
from torana.frontends.kit.ignorefile import parse_ignore_file
from torana.frontends.kit.syntax import find_syntax


@pytest.mark.parametrize("row", rows("syntax.json"))
def test_syntax(row: dict[str, Any]) -> None:
    found = find_syntax(row["data"].encode())
    assert (found is not None) == row["found"]
    if found is not None:
        assert (found.image, found.command_line, found.line) == (
            row["ref"],
            row["cmdline"],
            row["line"],
        )


@pytest.mark.parametrize("row", rows("ignore-read.json"))
def test_ignore_file(row: dict[str, Any]) -> None:
    assert list(parse_ignore_file(row["input"].encode())) == row["patterns"]


@pytest.mark.parametrize("row", rows("ignore-match.json"))
def test_ignore_patterns(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(InvalidPatternError) as caught:
            PatternMatcher(row["patterns"])
        assert caught.value.message == row["error"]
        return
    matcher = PatternMatcher(row["patterns"])
    paths = table("ignore-match.json")["paths"]
    assert [path for path in paths if matcher.matches(path)] == row["excluded"]
    assert matcher.has_exclusions == row["exclusions"]


@pytest.mark.parametrize("row", rows("git-ref.json"))
def test_git_ref(row: dict[str, Any]) -> None:
    if not row["is_git"]:
        assert parse_git_ref(row["ref"]) is None
        return
    if "error" in row:
        with pytest.raises(InvalidGitRefError) as caught:
            parse_git_ref(row["ref"])
        assert caught.value.message == row["error"]
        return
    ref = parse_git_ref(row["ref"])
    assert ref is not None
    found = {
        "remote": ref.remote,
        "short_name": ref.short_name,
        "ref": ref.ref,
        "subdir": ref.subdir,
        "checksum": ref.checksum,
        "mtime": ref.mtime,
        "keep_git_dir": ref.keep_git_dir,
        "submodules": ref.submodules,
        "fetch_by_commit": ref.fetch_by_commit,
        "unencrypted": ref.is_unencrypted or None,
        "indistinguishable_from_local": ref.is_like_local or None,
    }
    assert {key: value for key, value in found.items() if value not in ("", None)} == row["parsed"]
