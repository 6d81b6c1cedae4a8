"""The word expander against the measured rows and the shell tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.golden.dockerfile.rows import FIXTURES, rows

from torana.frontends.dockerfile.expansion import Expander, ExpansionError


@pytest.mark.parametrize("row", rows("expand.json"))
def test_expand(row: dict[str, Any]) -> None:
    expander = Expander(row.get("escape", "\\"))
    modes = {
        "raw_quotes": row.get("raw_quotes", False),
        "raw_escapes": row.get("raw_escapes", False),
        "skip_unset": row.get("skip_unset", False),
        "skip_quotes": row.get("skip_process_quotes", False),
    }
    if "error" in row:
        with pytest.raises(ExpansionError) as caught:
            expander.expand(row["word"], row["env"], **modes)
        assert caught.value.message == row["error"]
        return
    found = expander.expand(row["word"], row["env"], **modes)
    assert found.text == row["result"]
    assert list(found.words) == row["words"]
    assert sorted(found.matched) == sorted(row["matched"])
    assert sorted(found.unmatched) == sorted(row["unmatched"])


def _single_words() -> Iterator[Any]:
    lines = (FIXTURES / "shell" / "envVarTest").read_text().split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        platform, word, result = (part.strip() for part in line.split("|"))
        if platform in ("A", "U"):
            yield pytest.param(word, result, id=f"line-{number}")


@pytest.mark.parametrize(("word", "result"), list(_single_words()))
def test_single_word(word: str, result: str) -> None:
    env = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}
    if result == "error":
        with pytest.raises(ExpansionError):
            Expander().expand(word, env)
    else:
        assert Expander().expand(word, env).text == result


def _splittings() -> Iterator[Any]:
    env: dict[str, str] = {}
    lines = (FIXTURES / "shell" / "wordsTest").read_text().split("\n")
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("ENV "):
            name, _, value = line[4:].lstrip().partition("=")
            env[name] = value
            continue
        text, _, words = line.partition("|")
        yield pytest.param(text.strip(), words.lstrip(), dict(env), id=f"line-{number}")


@pytest.mark.parametrize(("text", "words", "env"), list(_splittings()))
def test_words(text: str, words: str, env: dict[str, str]) -> None:
    if words == "error":
        with pytest.raises(ExpansionError):
            Expander().expand(text, env)
    else:
        expected = words.split(",") if words else []
        assert list(Expander().expand(text, env).words) == expected
