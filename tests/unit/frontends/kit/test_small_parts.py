"""Suggestions, excerpts, results and tables of the kit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import BuildFileError, UserError
from torana.core.oci.platform import Platform
from torana.frontends.kit.diagnostics import SourceFile, located, render_excerpt
from torana.frontends.kit.results import PlatformResult, assemble
from torana.frontends.kit.subrequests import table
from torana.frontends.kit.suggest import did_you_mean, distance, suggest

FILE = SourceFile(filename="Dockerfile", data=b"one\ntwo\nthree\nfour\nfive\n")
WORDS = st.text("abc", max_size=6)


def test_suggestions_are_near_and_never_the_word_itself() -> None:
    assert suggest("tmp", ("bind", "tmpfs")) == "tmpfs"
    assert suggest("tmpfs", ("tmpf", "tmpfs")) is None
    assert suggest("abcdef", ("abc",)) is None
    assert did_you_mean("RUNN", ("run",), ignore_case=True) == " (did you mean run?)"


@given(WORDS, WORDS, WORDS)
def test_distance_is_a_metric(one: str, two: str, three: str) -> None:
    assert distance(one, two) == distance(two, one)
    assert (distance(one, two) == 0) == (one == two)
    assert distance(one, three) <= distance(one, two) + distance(two, three)


def test_nested_places_attach_innermost_first() -> None:
    with pytest.raises(UserError) as caught, located(FILE, FILE.lines(3)):
        with located(FILE, FILE.lines(1, 2)):
            raise BuildFileError("wrong")
    error = caught.value
    assert [[span.start.line for span in source.ranges] for source in error.sources] == [
        [1, 2],
        [3],
    ]
    assert str(error) == "Dockerfile:1: wrong"


def test_excerpt_shows_fewer_lines_around_several() -> None:
    assert render_excerpt(FILE.excerpt(FILE.lines(3))) == (
        "Dockerfile:3\n--------------------\n"
        "   1 |     one\n   2 |     two\n   3 | >>> three\n   4 |     four\n   5 |     five\n"
        "--------------------\n"
    )
    assert render_excerpt(FILE.excerpt(FILE.lines(2, 3))).count("|") == 4


@pytest.mark.parametrize("line", [0, 7])
def test_excerpt_outside_of_the_file_is_empty(line: int) -> None:
    assert render_excerpt(FILE.excerpt(FILE.lines(line))) == ""


def test_several_platforms_get_suffixes() -> None:
    results = [
        PlatformResult(
            id=f"linux/{name}",
            platform=Platform(os="linux", architecture=name),
            ref=None,
            config=b"{}",
        )
        for name in ("arm64", "amd64")
    ]
    many = assemble(results, multi_platform=True)
    assert list(many.refs) == ["linux/arm64", "linux/amd64"]
    assert set(many.metadata) == {
        "containerimage.config/linux/arm64",
        "containerimage.config/linux/amd64",
        "refs.platforms",
    }
    one = assemble(results[:1], multi_platform=False)
    assert not one.refs
    assert "containerimage.config" in one.metadata


def test_table_keeps_the_last_column_as_it_is() -> None:
    assert table([("A", "B"), ("long", "")]) == "A    B\nlong \n"
