"""Go's JSON of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import CorruptError
from torana.gateway.protocol import gojson
from torana.gateway.protocol.control_pb2 import BuildResultInfo
from torana.gateway.protocol.errdefs_pb2 import Source, Vertex
from torana.gateway.protocol.gateway_pb2 import ExitMessage
from torana.gateway.protocol.ops_pb2 import OpMetadata
from torana.gateway.protocol.policysession_pb2 import DecisionResponse
from torana.gateway.protocol.sourcepolicy_pb2 import DENY


def test_names_numbers_and_bytes_are_as_in_go() -> None:
    source = Source()
    source.info.filename = "a<b>&c"
    source.info.data = b"\xff\x00"
    source.ranges.add().start.line = 3
    assert gojson.dump(source) == (
        b'{"info":{"filename":"a\\u003cb\\u003e\\u0026c","data":"/wA="},'
        b'"ranges":[{"start":{"line":3}}]}'
    )
    assert gojson.dump(ExitMessage(Code=3)) == b'{"Code":3}'
    assert gojson.dump(Vertex()) == b"{}"


def test_maps_are_sorted_and_enums_are_numbers() -> None:
    metadata = OpMetadata(description={"b": "2", "a": "1"}, caps={"x": True})
    metadata.export_cache.SetInParent()
    assert gojson.dump(metadata) == (
        b'{"description":{"a":"1","b":"2"},"export_cache":{},"caps":{"x":true}}'
    )
    assert gojson.dump(DecisionResponse(action=DENY)) == b'{"action":1}'
    info = BuildResultInfo()
    info.Results[7].digest = "d"
    assert gojson.load(gojson.dump(info), BuildResultInfo) == info


def test_names_match_in_any_case_and_unknown_ones_are_skipped() -> None:
    assert gojson.load(b'{"DIGEST":"x","more":[1],"digest2":null}', Vertex).digest == "x"
    assert gojson.load(b'{"info":null,"ranges":null}', Source) == Source()


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{", b'{"digest":1}', b'{"digest":["x"]}', b"\xff", b"1" * 5000],
)
def test_damaged_text_is_an_error(text: bytes) -> None:
    with pytest.raises(CorruptError):
        gojson.load(text, Vertex)


@pytest.mark.parametrize(
    "text", [b'{"info":{"data":"%"}}', b'{"ranges":{}}', b'{"ranges":"ab"}', b'{"info":3}']
)
def test_values_must_fit(text: bytes) -> None:
    with pytest.raises(CorruptError):
        gojson.load(text, Source)


def test_depth_is_bounded() -> None:
    text = b'{"info":' + b'{"definition":{"Source":{"infos":[' * 40 + b"{}" + b"]}}}" * 40 + b"}"
    with pytest.raises(CorruptError):
        gojson.load(text, Source)


@given(st.text(), st.binary(), st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_load_undoes_dump(name: str, data: bytes, lines: list[int]) -> None:
    source = Source()
    source.info.filename = name
    source.info.data = data
    for line in lines:
        source.ranges.add().end.line = line
    assert gojson.load(gojson.dump(source), Source) == source
