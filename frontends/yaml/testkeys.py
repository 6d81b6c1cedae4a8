"""Reading `tests:`."""

from __future__ import annotations

from torana.frontends.kit.yamltree import Items, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.model import FileCheck, Test, TextCheck
from torana.frontends.yaml.steps import Reader


def read_tests(node: Node, reader: Reader) -> tuple[Test, ...]:
    """Read the tests of a stage.

    Raises:
        BuildFileError: one contradicts itself; located.
    """
    assert isinstance(node, Items)
    return tuple(_test(item, reader) for item in node if isinstance(item, Table))


def _test(node: Table, reader: Reader) -> Test:
    if "run" in node and "exec" in node:
        raise node.key("exec").error("`run` and `exec` exclude each other")
    has_process = "run" in node or "exec" in node
    for key in ("exit-code", "stdout", "stderr", "bind"):
        if key in node and not has_process:
            raise node.key(key).error(f"`{key}` needs `run` or `exec`")
    files = fields.table(node.get("files"))
    return Test(
        name=fields.text(node.get("name")),
        mark=node.mark,
        text=fields.optional_text(node.get("run")),
        args=fields.texts(node.get("exec")),
        exit_code=fields.integer(node.get("exit-code")) or 0,
        stdout=_text_check(node.get("stdout")),
        stderr=_text_check(node.get("stderr")),
        files={path: _file(entry.node) for path, entry in files.entries.items()} if files else {},
        binds=reader.binds(node.get("bind")),
    )


def _text_check(node: Node | None) -> TextCheck | None:
    if node is None:
        return None
    if not isinstance(node, Table):
        return TextCheck(contains=fields.texts(node))
    empty = node.get("empty")
    return TextCheck(
        equals=fields.optional_text(node.get("equals")),
        contains=fields.texts(node.get("contains")),
        matches=fields.patterns(node.get("matches")),
        is_empty=None if empty is None else fields.flag(empty),
    )


def _file(node: Node) -> FileCheck:
    if isinstance(node, Scalar):
        return FileCheck(exists=node.value is not False)
    assert isinstance(node, Table)
    return FileCheck(
        type=fields.text(node.get("type")),
        mode=fields.mode(node.get("mode")),
        owner=fields.owner(node.get("owner")),
        contains=fields.texts(node.get("contains")),
        matches=fields.patterns(node.get("matches")),
        sha256=fields.checksum(node.get("sha256")),
    )
