"""Text, JSON and DOT forms, and the comparison of definitions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from torana.core import llb
from torana.core.errors import UserError
from torana.core.llb import ops as o
from torana.core.llb.codec import decode, encode
from torana.core.llb.comparison import compare
from torana.core.llb.definition import Definition
from torana.core.llb.jsonform import to_json
from torana.core.llb.render import render
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")


def build(command: str = "make", tag: str = "1", extra: bool = False) -> Definition:
    base = llb.image(f"docker.io/library/x:{tag}")
    state = base.run([command], custom_name="step").root
    if extra:
        state = state.file(llb.rm("/tmp"))
    return state.file(llb.mkdir("/d")).marshal(platform=AMD64)


def test_json_of_golden_ops_and_metadata_is_that_of_the_original(solves: Any) -> None:
    for solve in solves:
        for row in solve.ops:
            assert to_json(decode(o.Op, row.data)) == row.json, row.digest


def test_json_form_holds_ops_metadata_and_sources() -> None:
    value = json.loads(render(build(), "json"))
    assert [row["index"] for row in value["ops"]] == [0, 1, 2, 3]
    assert value["ops"][1]["metadata"]["description"] == {"llb.customname": "step"}
    assert value["ops"][-1]["terminal"] is True
    assert value["source_infos"] == []


def test_text_form_names_inputs_by_number() -> None:
    lines = render(build(), "text").splitlines()
    assert lines[0] == "[0] source docker-image://docker.io/library/x:1  (linux/amd64)"
    assert "    mount / bind <- [0] -> output 0" in lines
    assert "    action 0: mkdir /d on [1] -> output 0" in lines
    assert lines[-1] == "result [2]"
    assert render(Definition(), "text") == "scratch\n"


def test_dot_form_quotes_and_links() -> None:
    state = llb.image("docker.io/library/x:1").run(['say "hi"\n\\']).root
    dot = render(state.marshal(platform=AMD64), "dot")
    assert '[label="exec say \\"hi\\"\\\\n\\\\", shape=box];' in dot
    assert '  n0 -> n1 [label="/"];' in dot
    assert "  n1 -> n2;" in dot


@pytest.mark.parametrize("form", ["text", "json", "dot"])
def test_each_form_shows_all_golden_definitions(solves: Any, form: str) -> None:
    for solve in solves[::3]:
        assert render(Definition(tuple(row.data for row in solve.ops)), form).endswith("\n")


@pytest.mark.parametrize("form", ["text", "json", "dot"])
def test_wrong_indexes_are_shown_not_refused(form: str) -> None:
    copy = o.FileAction(input=7, secondary_input=-5, action=o.Copy(src="a", dest="b"))
    broken = (
        encode(o.Op(kind=o.FileOp((copy,)))),
        encode(o.Op(kind=o.ExecOp(mounts=(o.Mount(input=4),)))),
        encode(o.Op(kind=o.DiffOp(), inputs=(o.Input(Digest("sha256:none"), 3),))),
    )
    assert render(Definition(broken), form)


def test_control_characters_do_not_reach_the_terminal() -> None:
    state = llb.scratch().run(["\x1b[31mred"], custom_name="a\x07b").root
    for form in ("text", "dot"):
        text = render(state.marshal(platform=AMD64), form)
        assert "\x1b" not in text and "\x07" not in text


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(UserError, match="unknown form of LLB `yaml`"):
        render(build(), "yaml")


def test_equal_definitions_have_no_difference() -> None:
    assert not compare(build(), build())
    assert str(compare(build(), build())) == "no difference"


def test_only_the_op_that_changed_is_listed() -> None:
    found = compare(build("make"), build("ninja"))
    assert not found.added and not found.removed
    assert [change.details for change in found.changed] == [
        ("exec.meta.args[0]: 'make' -> 'ninja'",)
    ]
    assert str(found).splitlines()[0] == "~ exec ninja (step)"


def test_a_change_at_the_base_does_not_spread() -> None:
    found = compare(build(tag="1"), build(tag="2"))
    assert [change.label for change in found.changed] == [
        "source docker-image://docker.io/library/x:2"
    ]


def test_added_and_removed_ops_are_named() -> None:
    more = compare(build(), build(extra=True))
    assert [label for _, label in more.added] == ["file rm /tmp"]
    assert not more.removed
    assert more.changed[0].details == ("input 0: `exec make (step)` -> `file rm /tmp`",)
    less = compare(build(extra=True), build())
    assert [label for _, label in less.removed] == ["file rm /tmp"]
    assert not less.added


def test_changes_of_metadata_are_seen() -> None:
    def step(ignore: bool) -> Definition:
        return llb.scratch().run(["x"], ignore_cache=ignore).root.marshal(platform=AMD64)

    found = compare(step(False), step(True))
    assert found.changed[0].details == ("metadata.ignore_cache: True added",)
