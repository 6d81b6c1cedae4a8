"""Whatever the bytes, reading a Dockerfile ends in nodes or in a `BuildFileError`."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from torana.core.errors import BuildFileError, UserError
from torana.frontends.dockerfile.expansion import Expander, ExpansionError
from torana.frontends.dockerfile.instructions import read_instruction
from torana.frontends.dockerfile.mounts import check_mount_from, parse_mount
from torana.frontends.dockerfile.parser import parse
from torana.frontends.dockerfile.ports import parse_ports
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.ignorefile import parse_ignore_file
from torana.frontends.kit.syntax import find_check, find_syntax

PIECES = (
    "FROM a\n|RUN |COPY |ADD |ENV |LABEL |ARG |ONBUILD |HEALTHCHECK |CMD |SHELL |VOLUME |EXPOSE |"
    "# escape=`\n|# syntax=x\n|#|--mount=|--from=|--interval=1s|--retries=|--|type=cache,|size=|"
    "<<EOF|<<-'E F'|EOF\n|[|]|\"|'|\\|\\\n|`\n|,|=|:|/|$|${|}|-|?|%|*|\n|\r\n|\t| |1|é|\ufeff|²"
).split("|")
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
DATA = st.binary(max_size=300) | TEXTS.map(lambda text: text.encode("utf-8"))
ENV = {"A": "a/b a*", "E": ""}


@given(DATA)
@example(b"\xef\xbb\xbf")
@example(b"RUN <<\xff\n\xff")
@settings(max_examples=400)
def test_a_file_is_read_or_refused(data: bytes) -> None:
    find_syntax(data)
    find_check(data)
    try:
        tree = parse(data)
    except BuildFileError as err:
        assert err.message
        return
    last = data.count(b"\n") + 1
    for node in tree.nodes:
        assert 1 <= node.first <= node.last <= last
        try:
            instruction = read_instruction(node, "Dockerfile")
        except BuildFileError as err:
            assert err.message
        else:
            assert len(instruction.ranges) == node.last - node.first + 1


@given(DATA)
@settings(max_examples=200)
def test_instructions_of_a_file_do_not_overlap(data: bytes) -> None:
    try:
        nodes = parse(data).nodes
    except BuildFileError:
        return
    for before, after in pairwise(nodes):
        assert before.last < after.first


@given(TEXTS)
@settings(max_examples=400)
def test_a_word_is_expanded_or_refused(text: str) -> None:
    for escape in "\\`":
        try:
            found = Expander(escape).expand(text, ENV)
        except ExpansionError as err:
            assert err.message.startswith("failed to process ")
        else:
            assert all(found.words)
            assert set(found.matched) <= set(ENV)
            assert not set(found.unmatched) & set(ENV)


@given(TEXTS)
@settings(max_examples=200)
def test_small_readers_read_or_refuse(text: str) -> None:
    def mount(value: str) -> None:
        check_mount_from(value)
        parse_mount(value, lambda word: Expander().expand(word, ENV).text)

    def ignore(value: str) -> None:
        parse_ignore_file(value.encode("utf-8"))

    for reader in (mount, ignore, parse_ports, parse_git_ref):
        try:
            reader(text)
        except UserError as err:
            assert err.message
