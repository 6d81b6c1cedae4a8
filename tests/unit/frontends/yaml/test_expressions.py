"""Expressions: values, types, and bounds on everything."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from torana.frontends.yaml.expressions.parser import ExpressionError, parse
from torana.frontends.yaml.expressions.pattern import InvalidPatternError, Pattern
from torana.frontends.yaml.expressions.values import Value, Version

NAMES: dict[tuple[str, ...], Value] = {
    ("args", "V"): Version("1.10"),
    ("args", "YES"): True,
    ("args", "LIST"): ("x", "y"),
    ("args", "NONE"): None,
    ("iffy",): "a name that begins like a word of the language",
}


def evaluate(source: str) -> Value:
    return parse(source).evaluate(NAMES.__getitem__)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 + 2 + 3", 6), ("'a' + \"b\"", "ab"), ("-1", -1), ("null", None),
        ("[1, 'a'] + [true]", (1, "a", True)),
        ("'x' if args.YES else 'y'", "x"), ("'x' if not args.YES else 'y'", "y"),
        ("1 if false else 2 if false else 3", 3), ("args.YES and not false or false", True),
        ("1 < 2 and 2 <= 2 and 'b' > 'a' and 2 >= 1 and 1 != 2", True),
        ("args.V > '1.9'", True), ("version('2.0-rc1') < version('2.0')", True),
        ("version('1.2') == '1.2.0'", True), ("'x' in args.LIST", True), ("'z' not in 'xy'", True),
        ("1 in ['1']", False), ("true in [1]", False), ("args.NONE == null", True),
        ("'' == null", False),
        ("default(args.NONE, 'd')", "d"), ("default('', 'd')", "d"), ("default(false, 'd')", False),
        ("join(split('a-b', '-'), '+')", "a+b"), ("match('^a.c$', 'abc')", True),
        ("upper('a') + lower('B') + replace('aXa', 'X', '-')", "Aba-a"), ("iffy", NAMES[("iffy",)]),
        ("startswith('abc', 'a') and endswith('abc', 'c')", True), ("'it''s'", None),
    ],
)  # fmt: skip
def test_values(source: str, expected: Value) -> None:
    if expected is None and source == "'it''s'":
        with pytest.raises(ExpressionError):
            evaluate(source)
        return
    assert evaluate(source) == expected


@pytest.mark.parametrize(
    "source",
    ["1 == '1'", "true == 1", "null < 1", "true < false", "'a' + 1", "1 and true", "not 'a'",
     "'x' in 5", "upper(1)", "join('a', ',')", "split('a', '')", "replace('a', '', 'b')"],
)  # fmt: skip
def test_nothing_is_converted(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(source)


def test_what_is_not_chosen_is_not_evaluated() -> None:
    assert evaluate("1 if true else upper(5)") == 1
    assert evaluate("true or upper(5)") is True
    assert evaluate("false and upper(5)") is False


@given(st.text(alphabet="ab1 '\"()[].,+<>=!?&|inotr-", max_size=60))
def test_any_text_is_an_expression_or_an_error(source: str) -> None:
    try:
        parse(source).evaluate(lambda path: "x")
    except ExpressionError as err:
        assert "\n" not in str(err)


@pytest.mark.parametrize("size", [50, 500, 1900])
def test_long_ones_are_refused_or_quick(size: int) -> None:
    for source in (
        "(" * size + "1" + ")" * size,
        "not " * size + "true",
        "[" * size,
        "1" + "+1" * size,
        "a." * size + "b",
        "upper(" * size + "'a'" + ")" * size,
        "'" + "a" * size,
    ):
        try:
            parse(source).evaluate(lambda path: "x")
        except ExpressionError:
            pass


def test_results_are_bounded() -> None:
    source = "'" + "a" * 100 + "'"
    for _ in range(5):
        source = f"replace({source}, 'a', '{'a' * 50}')"
    with pytest.raises(ExpressionError, match="KiB"):
        evaluate(source)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*)*x", "((a*)*)*b", "a{0,90}a{0,90}b"])
def test_no_pattern_is_slow(pattern: str) -> None:
    assert not Pattern.parse("^" + pattern).matches("a" * 3000 + "!")


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[", "a**", "*", "a{2,1}", r"\b", "(?=a)", "(?P<n>a)", "a{999}{99}", "[b-a]",
     "x{1,9999999}"],
)  # fmt: skip
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(InvalidPatternError):
        Pattern.parse(pattern)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "1", "^", "$", r"\."]),
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{1,}"])).map(
            lambda p: f"({p[0]}){p[1]}"
        )
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text(alphabet="ab1.", max_size=8))
def test_patterns_match_what_python_matches(pattern: str, text: str) -> None:
    assume("$" not in pattern or not text.endswith("\n"))
    expected = re.search(pattern, text, re.ASCII) is not None
    assert Pattern.parse(pattern).matches(text) == expected


def test_a_file_without_expressions_imports_no_grammar() -> None:
    code = (
        "import sys\n"
        "from torana.frontends.kit.diagnostics import SourceFile\n"
        "from torana.frontends.yaml.document import read_document\n"
        "text = b'version: 1\\nstages: {a: {from: x, steps: [run]}}'\n"
        "read_document(SourceFile(filename='b', data=text))\n"
        "import torana.frontends.yaml\n"
        "print([name for name in ('lark', 'grpc', 'rich', 'click') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dockerfiles_do_not_import_yaml() -> None:
    code = (
        "import sys, torana.frontends.dockerfile\n"
        "print([name for name in sys.modules if 'yaml' in name or name == 'jsonschema'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
