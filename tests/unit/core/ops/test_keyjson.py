from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from torana.core.ops.keyjson import key_json


def test_order_and_escapes() -> None:
    value = {"b": "<a> & \u2028\u2029 é \U0001f600", "a": [1, True], "c": {}}
    assert key_json(value) == (
        b'{"b":"\\u003ca\\u003e \\u0026 \\u2028\\u2029 '
        + "é \U0001f600".encode()
        + b'","a":[1,true],"c":{}}'
    )


def test_control_characters() -> None:
    assert key_json('\x00\x1f\n\t"\\/\x7f') == b'"\\u0000\\u001f\\n\\t\\"\\\\/\x7f"'


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    assert key_json(b"a\xff".decode(errors="surrogateescape")) == b'"a\\ufffd"'


@given(st.text())
def test_is_json(text: str) -> None:
    assert json.loads(key_json([text])) == [text]
