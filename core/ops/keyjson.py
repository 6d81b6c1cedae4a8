"""`key_json`: the JSON that cache keys are digests of.

Spec: reference of the solver, section 6; the bytes are those of Go's encoding/json.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

# Escaped by Go besides what JSON asks for; lone surrogates stand for bytes that are not UTF-8.
_SPECIAL: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def key_json(value: Any) -> bytes:
    """Give compact JSON, members in the order given; leaving out empty members is the caller's.

    `<`, `>`, `&`, U+2028 and U+2029 are escaped, all other characters are plain UTF-8.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return _SPECIAL.sub(_escape, text).encode()


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return "\\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"
