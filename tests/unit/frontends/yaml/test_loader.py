"""Nodes of YAML: scalars stay text, limits hold, anything is either a tree or one error."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from torana.core.errors import BuildFileError
from torana.frontends.kit import yamlcomposer
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.yamltree import Scalar, Table, plain
from torana.frontends.yaml import loader

ALPHABET = st.sampled_from([*"abx:-?{}[],&*#!|>'\"%@`\n\t 01~<.$", "${{", "}}", "<<: ", "- "])


def file(text: str | bytes) -> SourceFile:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return SourceFile(filename="build.yaml", data=data, language="YAML")


def value(text: str) -> object:
    return plain(loader.load(file(text)))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3.10", "3.10"), ("0755", "0755"), ("no", "no"), ("1e3", "1e3"), ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"), ("True", "True"), ("01", "01"), ("+5", "+5"),
        ("1_000", "1_000"), ("5", 5), ("-3", -3), ("0", 0), ("true", True),
        ("false", False), ("null", None), ("", None),
        ("'5'", "5"), ('"true"', "true"), ("'null'", "null"), ("9999999999999999999", "9" * 19),
    ],
)  # fmt: skip
def test_scalars_stay_text(written: str, expected: object) -> None:
    assert value(f"a: {written}\n") == {"a": expected}
    node = loader.load(file(f"a: {written}\n")).entries["a"].node
    assert isinstance(node, Scalar)
    assert node.text == written.strip("'\"")


def test_places_count_from_one_and_end_before_what_follows() -> None:
    root = loader.load(file("a:\n  - b: |\n      x\n      y\n\n# comment\nc: {d: e}\n"))
    first, second = root.entries["a"].node.mark, root.entries["c"].node.mark
    assert (first.line, first.column, first.end_line) == (2, 3, 4)
    assert (second.line, second.column, second.end_line, second.end_column) == (7, 4, 7, 10)


def test_keys_of_merges_come_after_own_ones_and_lose() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 9}\n"
    root = loader.load(file(text))
    merged = root.entries["z"].node
    assert isinstance(merged, Table)
    assert list(merged.entries) == ["a", "b", "c"]
    assert plain(merged) == {"a": 9, "b": 2, "c": 4}
    quoted = loader.load(file("z: {'<<': 1}\n"))
    assert plain(quoted) == {"z": {"<<": 1}}


def test_an_alias_is_the_node_itself() -> None:
    root = loader.load(file("a: &a [x]\nb: *a\n"))
    assert root.entries["a"].node is root.entries["b"].node


@pytest.mark.parametrize("character", ["\ud800", "\x00", "\x1b", "\ufffe"])
def test_strange_characters_are_errors(character: str) -> None:
    with pytest.raises(BuildFileError) as caught:
        loader.load(file(f"a: 1\nb: x{character}\n"))
    assert caught.value.at is not None


def test_a_file_that_is_too_big_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamlcomposer, "MAX_BYTES", 10)
    with pytest.raises(BuildFileError, match="more than"):
        loader.load(file("a: 12345678901\n"))


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_depth_is_bounded(depth: int) -> None:
    for text in ("a: " + "[" * depth, "a: " + "{b: " * depth, "- " * depth):
        with pytest.raises(BuildFileError):
            loader.load(file(text))


def test_depth_counts_through_aliases() -> None:
    lines = ["x0: &x0 [x]", *(f"x{n}: &x{n} [*x{n - 1}]" for n in range(1, 60))]
    with pytest.raises(BuildFileError, match="levels deep"):
        loader.load(file("\n".join(lines)))


@given(st.lists(ALPHABET, max_size=40).map("".join))
@example("a: *b")
@example("<<: {a: 1}")
@example("? a\n: b")
@example("a: &a\n  <<: *a")
def test_any_text_is_a_tree_or_one_error(text: str) -> None:
    try:
        root = loader.load(file(text))
    except BuildFileError as err:
        assert err.at is not None
        assert "\n" not in err.message
    else:
        json.dumps(plain(root))


@given(
    st.recursive(
        st.text(alphabet="abc 12", max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner)
        ),
        max_leaves=12,
    )
)
def test_what_pyyaml_writes_is_read_back_as_text(tree: object) -> None:
    document = {"top": tree}
    written = yaml.safe_dump(document, default_style='"')
    assert value(written) == document


def test_both_parsers_of_pyyaml_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: 1\nb:\n  - c: |\n      x\n    d: 'e'\nf: [g, {h: i}]\n"

    def marks() -> list[tuple[int, int, int]]:
        found = []
        waiting = [loader.load(file(text))]
        while waiting:
            node = waiting.pop()
            found.append((node.mark.line, node.mark.column, node.mark.end_line))
            if isinstance(node, Table):
                waiting += [e.node for e in node.entries.values()]  # type: ignore[misc]  # any node
            elif not isinstance(node, Scalar):
                waiting += node.items
        return found

    default = marks()
    monkeypatch.setattr(yamlcomposer, "_LOADER", yaml.Loader)
    assert marks() == default
