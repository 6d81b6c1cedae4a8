"""Bytes: vectors, all golden ops, laws, and hostile input."""

from __future__ import annotations

from dataclasses import fields
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.errors import Position
from torana.core.llb import definition as d
from torana.core.llb import ops as o
from torana.core.llb.codec import InvalidLLBError, decode, encode
from torana.core.llb.definition import Definition
from torana.core.llb.schema import SCHEMA, Field
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")
SOURCE = o.Op(
    kind=o.SourceOp(identifier="docker-image://docker.io/library/busybox:latest"),
    platform=AMD64,
    constraints=o.Constraints(),
)
SOURCE_DIGEST = "sha256:e1432b8e2054abb034451c15f0a8ad49d07f5892ca266016226fec77e95d20a0"
EXEC = o.Op(
    inputs=(o.Input(Digest(SOURCE_DIGEST)),),
    kind=o.ExecOp(
        meta=o.Meta(args=("/bin/true",), env=("PATH=/bin",), cwd="/"),
        mounts=(o.Mount(dest="/"),),
    ),
    platform=AMD64,
    constraints=o.Constraints(),
)
EXEC_DIGEST = "sha256:eb74ab3fe072d980365a1e4a71f81e241bc4d51829d2cdb728558e1d83d35a89"
FILE = o.Op(
    inputs=(o.Input(Digest(EXEC_DIGEST)),),
    kind=o.FileOp(
        (o.FileAction(secondary_input=-1, action=o.MkDir(path="/d", mode=0o755, timestamp=-1)),)
    ),
    constraints=o.Constraints(),
)
FILE_DIGEST = "sha256:f1bb2fe41286c57bb0aa9e87ff535f92ac0f4ea54b8d01913e21b578f3655920"
TERMINAL = o.Op(inputs=(o.Input(Digest(FILE_DIGEST)),))
TERMINAL_DIGEST = "sha256:dc7ba94e26172289767f381f2b9dea784ee4b44f81ea86c8ca1307548c6f8f3c"


@pytest.mark.parametrize(
    ("op", "head", "digest"),
    [
        (SOURCE, "520e0a05616d64363412056c696e75785a001a310a2f", SOURCE_DIGEST),
        (EXEC, "0a490a477368613235363a65313433", EXEC_DIGEST),
        (FILE, "0a490a477368613235363a65623734", FILE_DIGEST),
        (TERMINAL, "0a490a477368613235363a66316262", TERMINAL_DIGEST),
    ],
)
def test_vectors_of_the_wire_reference(op: o.Op, head: str, digest: str) -> None:
    data = encode(op)
    assert data.hex().startswith(head)
    assert Digest.of(data) == digest
    assert decode(o.Op, data) == op


def test_each_golden_op_has_the_same_bytes_after_reading(solves: Any) -> None:
    rows = {row.digest: row for solve in solves for row in solve.ops}
    assert len(rows) > 300
    for digest, row in rows.items():
        again = encode(decode(o.Op, row.data))
        assert again == row.data, digest
        assert Digest.of(again) == digest


# --- laws ------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_I64 = st.integers(-(1 << 63), (1 << 63) - 1)
_I32 = st.integers(-(1 << 31), (1 << 31) - 1)
_U32 = st.integers(0, (1 << 32) - 1)
_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": _TEXT,
    "digest": _TEXT.map(Digest),
    "bytes": st.binary(max_size=8),
    "optional_bytes": st.none() | st.binary(max_size=8),
    "bool": st.booleans(),
    "int": _I64,
    "int32": _I32,
    "uint32": _U32,
    "uint64": st.integers(0, (1 << 64) - 1),
    "strings": st.lists(_TEXT, max_size=3).map(tuple),
    "byte_list": st.lists(st.binary(max_size=8), max_size=3).map(tuple),
}


def _field(field: Field) -> st.SearchStrategy[Any]:
    if field.kind in _SCALARS:
        return _SCALARS[field.kind]
    if field.kind == "packed":
        return st.lists(_I32 if field.type == "int32" else _I64, max_size=3).map(tuple)
    if field.kind == "enum":
        return st.sampled_from(list(field.type))
    if field.kind == "messages":
        return st.lists(_message(field.type), max_size=2).map(tuple)
    if field.kind == "map":
        values = {"string": _TEXT, "bool": st.booleans()}
        value = values[field.type] if isinstance(field.type, str) else _message(field.type)
        return st.dictionaries(_TEXT, value, max_size=3)
    assert field.kind == "message"
    return _message(field.type) if field.type is Position else st.none() | _message(field.type)


def _message(cls: type) -> st.SearchStrategy[Any]:
    if cls is o.UserOpt:
        by_name = _message(o.NamedUser).map(lambda user: o.UserOpt(by_name=user))
        return by_name | _U32.map(lambda number: o.UserOpt(by_id=number))
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for field in SCHEMA[cls]:
        if field.kind == "oneof":
            old = parts.get(field.attr, st.none())
            parts[field.attr] = old | _message(field.type)
        elif field.type is Definition:
            parts[field.attr] = st.none()  # no nesting without end
        else:
            parts[field.attr] = _field(field)
    return st.builds(cls, **parts)


@settings(max_examples=150, deadline=None)
@given(_message(o.Op))
def test_reading_undoes_writing_of_ops(op: o.Op) -> None:
    assert decode(o.Op, encode(op)) == op


@settings(max_examples=60, deadline=None)
@given(_message(o.OpMetadata))
def test_reading_undoes_writing_of_metadata(metadata: o.OpMetadata) -> None:
    assert decode(o.OpMetadata, encode(metadata)) == metadata


@settings(max_examples=60, deadline=None)
@given(_message(Definition))
def test_writing_definitions_is_stable(definition: Definition) -> None:
    data = definition.encode()
    again = Definition.decode(data)
    assert again.encode() == data
    assert again.ops == definition.ops
    assert dict(again.metadata) == dict(definition.metadata)


def test_the_schema_names_each_attribute_and_number_once() -> None:
    for cls, rows in SCHEMA.items():
        assert {row.attr for row in rows} == {part.name for part in fields(cls)}, cls
        assert len({row.number for row in rows}) == len(rows), cls


def test_defaults_of_proto3_are_read_not_those_of_the_class() -> None:
    assert decode(o.BuildOp, b"").builder == 0  # the class says -1
    assert decode(d.Range, b"") == d.Range(Position(0), Position(0))


def test_negative_numbers_take_ten_bytes() -> None:
    assert encode(o.Mount(input=-1)).hex() == "08" + "ff" * 9 + "01"


def test_present_but_empty_parts_are_written() -> None:
    assert encode(o.Op(constraints=o.Constraints())).hex() == "5a00"
    assert encode(o.UserOpt(by_id=0)).hex() == "1000"
    assert decode(o.UserOpt, bytes.fromhex("1000")).by_id == 0


def test_map_entries_are_sorted_by_bytes() -> None:
    attrs = {"b": "2", "": "0", "é": "4", "a": "1", "z": "3"}
    first = encode(o.SourceOp(identifier="x", attrs=attrs))
    assert first == encode(o.SourceOp(identifier="x", attrs=dict(reversed(attrs.items()))))
    assert list(decode(o.SourceOp, first).attrs) == ["", "a", "b", "z", "é"]


def test_the_last_member_of_a_union_wins() -> None:
    source, file = encode(o.Op(kind=o.SourceOp(identifier="x"))), encode(o.Op(kind=o.FileOp()))
    assert isinstance(decode(o.Op, source + file).kind, o.FileOp)
    assert isinstance(decode(o.Op, file + source).kind, o.SourceOp)
    name, number = encode(o.UserOpt(by_name=o.NamedUser("u"))), encode(o.UserOpt(by_id=7))
    assert decode(o.UserOpt, name + number) == o.UserOpt(by_id=7)
    assert decode(o.UserOpt, number + name) == o.UserOpt(by_name=o.NamedUser("u"))


def test_unsigned_numbers_stay_unsigned() -> None:
    resources = o.LinuxResources(cpu_shares=(1 << 64) - 1, memory_swap=-1)
    assert decode(o.LinuxResources, encode(resources)) == resources


def test_packed_numbers_may_come_one_by_one() -> None:
    assert decode(o.PassthroughOp, bytes.fromhex("1003 1004")).outputs == (3, 4)
    assert decode(o.PassthroughOp, bytes.fromhex("12020304")).outputs == (3, 4)


@pytest.mark.parametrize(
    "extra", ["f80701", "fa0703616263", "fd0701020304", "f9070102030405060708"]
)
def test_unknown_fields_are_skipped(extra: str) -> None:
    assert decode(o.Op, encode(SOURCE) + bytes.fromhex(extra)) == SOURCE


def test_text_that_is_not_utf8_keeps_its_bytes() -> None:
    data = bytes.fromhex("0a02fffe")
    assert encode(decode(o.SourceOp, data)) == data


# --- hostile input ---------------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([*SCHEMA]))
def test_random_bytes_are_read_or_refused(data: bytes, cls: type) -> None:
    try:
        decode(cls, data)
    except InvalidLLBError:
        pass


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_ops_are_read_or_refused(data: st.DataObject) -> None:
    good = encode(data.draw(st.sampled_from([SOURCE, EXEC, FILE])))
    position = data.draw(st.integers(0, len(good) - 1))
    bad = good[:position] + data.draw(st.binary(max_size=3)) + good[position + 1 :]
    try:
        encode(decode(o.Op, bad))
    except InvalidLLBError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        "0a",  # no length
        "0a05",  # fewer bytes than said
        "0affffffffffffffffff01",  # length near 2**64
        "0affffffffffffffffffff01",  # number of 11 bytes
        "0200",  # field number 0
        "0b0c",  # group
        "0801",  # inputs as a number
        "fd0701",  # cut in a fixed field
    ],
)
def test_malformed_bytes_are_refused(data: str) -> None:
    with pytest.raises(InvalidLLBError, match="failed to parse llb"):
        decode(o.Op, bytes.fromhex(data))


def test_unknown_enum_values_are_refused() -> None:
    class Odd(IntEnum):
        VALUE = 9

    with pytest.raises(InvalidLLBError, match="network"):
        decode(o.ExecOp, bytes((3 << 3, Odd.VALUE)))


def test_nesting_is_bounded() -> None:
    data = b""
    for _ in range(300):  # Definition → SourceMap → SourceInfo → Definition …
        for tag in (0x1A, 0x12, 0x1A):
            head, size = bytearray((tag,)), len(data)
            while size >= 0x80:
                head.append(size & 0x7F | 0x80)
                size >>= 7
            data = bytes((*head, size)) + data
    with pytest.raises(InvalidLLBError, match="nested too deeply"):
        Definition.decode(data)
