"""Our errors against the published schema: one refuses a file exactly when the other does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from torana.core.errors import BuildFileError
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.yamltree import plain
from torana.frontends.yaml.loader import load
from torana.frontends.yaml.schema import public_schema, verbs
from torana.frontends.yaml.validation import validate

PUBLIC = Draft202012Validator(public_schema())
CASES = Path(__file__).parents[3] / "golden" / "yaml" / "cases"
VALUES: list[Any] = [None, True, False, 5, "text", "/abs", "0755", [], ["a"], {}, {"a": "b"}]


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(public_schema())


def test_every_verb_has_a_definition() -> None:
    assert set(verbs()) == set(
        "run exec copy fetch git write mkdir remove symlink packages uses set".split()
    )


def loaded(data: bytes) -> Any:
    return load(SourceFile(filename="build.yaml", data=data, language="YAML"))


@pytest.mark.parametrize("path", sorted(CASES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_cases(path: Path) -> None:
    try:
        root = loaded(path.read_bytes())
    except BuildFileError:
        return  # no YAML
    agree(root)


def agree(root: Any) -> None:
    is_valid = PUBLIC.is_valid(plain(root))
    try:
        validate(root)
    except BuildFileError as err:
        assert not is_valid, err
        assert err.at is not None
        assert "\n" not in err.message
        assert len(err.message) < 300
    else:
        assert is_valid, next(PUBLIC.iter_errors(plain(root)))


def _valid() -> list[dict[str, Any]]:
    found = []
    for path in sorted(CASES.glob("[!e]*.yaml")):
        document = plain(loaded(path.read_bytes()))
        if PUBLIC.is_valid(document):
            found.append(document)
    return found


DOCUMENTS = _valid()


@settings(max_examples=150)
@given(st.data())
def test_mutants(data: st.DataObject) -> None:
    """Change something anywhere in a valid file: both still agree."""
    import json

    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    node: Any = document
    while True:
        children = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not children:
            break
        key = data.draw(st.sampled_from(children))
        inner = node[key]
        if isinstance(inner, (dict, list)) and inner and data.draw(st.booleans()):
            node = inner
            continue
        change = data.draw(st.sampled_from(["value", "rename", "remove"]))
        if change == "value":
            node[key] = data.draw(st.sampled_from(VALUES))
        elif change == "remove":
            del node[key]
        elif isinstance(node, dict):
            node[data.draw(st.sampled_from(["unknown", "run", "from", "to", "name"]))] = node.pop(
                key
            )
        break
    agree(loaded(json.dumps(document).encode()))
