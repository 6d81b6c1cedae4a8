"""Whatever the file says, converting it ends in LLB or in one short error.

About a minute in CI, counted in examples: several tests, so that they run beside others.
"""

from __future__ import annotations

import asyncio
import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torana.cli.failures import describe
from torana.core.errors import ToranaError
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.offline import OfflineClient
from torana.frontends.kit.yamltree import plain
from torana.frontends.yaml import YamlFrontend
from torana.frontends.yaml.loader import load

CASES = Path(__file__).parents[3] / "golden" / "yaml" / "cases"
TEXTS = [path.read_text() for path in sorted(CASES.glob("*.yaml"))]
MAX_LINES = 60  # an error with its places and hint fits on a screen
EXPRESSIONS = [
    "${{ args.A }}", "${{ inputs.x }}", "${{ matrix.a }}", "${{ target.arch }}", "${{ 1 + }}",
    "${{", "}}", "${{ upper('x') }}", "${{ ['a'] }}", "${{ null }}", "${{ true }}",
    "${{ replace('aaaa', 'a', 'aaaaaaaa') }}", "${{ match('(a*)*b', 'aaaaaaaaaaaaaaaaaaaa') }}",
]  # fmt: skip
PIECES = [
    "run: ", "copy: ", "from: ", "to: ", "steps:\n", "- ", "  ", "    ", "\n", "\t", ": ", "#",
    "version: 1\n", "stages:\n", "matrix: ", "uses: ", "with: ", "&a ", "*a", "<<: ", "{", "}",
    "[", "]", ",", "|", ">", "'", '"', "!", "%", "@", "\ufeff", "é", "\u2028", "0755",
    "null", *EXPRESSIONS,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, "", "a", "/", "..", "/../..", "a:b", "*", "\n", "é", "x" * 300, [], {},
    ["a"], {"a": "b"}, [["a"]], *EXPRESSIONS,
]  # fmt: skip
KEYS = sorted(
    set(
        "run exec copy fetch git write mkdir remove symlink packages uses set to from env with if "
        "matrix variant merge platform workdir user shell network cache secrets ssh bind tmpfs "
        "tests image steps args templates include contexts defaults name content sha256 "
        "unpinned x-y".split()
    )
)
SETTINGS = settings(max_examples=900, suppress_health_check=list(HealthCheck))


def convert(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        Path(folder, "build.yaml").write_bytes(data)
        folders = {"context": Path(folder), "dockerfile": Path(folder)}
        client = OfflineClient(folders, {"tests": "none"})
        try:
            asyncio.run(YamlFrontend().build(client))
        except ToranaError as err:
            shown = describe(err)
            assert len(shown.splitlines()) <= MAX_LINES, shown
            assert "\n" not in err.message


def test_names_of_more_than_a_line() -> None:
    convert(b'{"version": 1, "include": ["a/\\n.yaml"], "stages": {"a": {"from": "x"}}}')


@SETTINGS
@given(st.binary(max_size=200))
def test_bytes(data: bytes) -> None:
    convert(data)


@SETTINGS
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_pieces(text: str) -> None:
    convert(text.encode())


@pytest.mark.parametrize("half", [0, 1])
@SETTINGS
@given(st.data())
def test_spliced_texts(half: int, data: st.DataObject) -> None:
    """Put a piece into, or take a part out of, the text of a case."""
    text = data.draw(st.sampled_from(TEXTS[half::2]))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:]
    convert(text.encode())


def _documents() -> list[Any]:
    found = []
    for text in TEXTS:
        try:
            found.append(plain(load(SourceFile(filename="b", data=text.encode()))))
        except ToranaError:
            continue
    return found


DOCUMENTS = _documents()


@pytest.mark.parametrize("part", range(3))
@SETTINGS
@given(st.data())
def test_changed_trees(part: int, data: st.DataObject) -> None:
    """Change values, rename and move keys anywhere in a case, several times."""
    document = json.loads(json.dumps(data.draw(st.sampled_from(DOCUMENTS[part::3]))))
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = document
        while isinstance(node, (dict, list)) and node:
            key = data.draw(
                st.sampled_from(list(node) if isinstance(node, dict) else range(len(node)))
            )
            inner = node[key]
            if isinstance(inner, (dict, list)) and inner and data.draw(st.integers(0, 3)):
                node = inner
                continue
            if isinstance(node, dict) and data.draw(st.booleans()):
                node[data.draw(st.sampled_from(KEYS))] = node.pop(key)
            else:
                node[key] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
            break
    convert(json.dumps(document).encode())
