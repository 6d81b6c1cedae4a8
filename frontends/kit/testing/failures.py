"""Wrong build files that carry the expected message: `rnu x  ### found `rnu``."""

from __future__ import annotations

import re
from typing import Any, Final

from torana.core.errors import ToranaError
from torana.frontends.kit.testing.gateway import FakeGateway

_MARK: Final = re.compile(r"[ \t]*### (?P<message>[^\n]+)")


def assert_fails(gateway: FakeGateway, frontend: Any, text: str, **opts: str) -> ToranaError:
    """Build a file in which one line ends with `### ` and a part of the message.

    Raises:
        AssertionError: it builds, or fails at another line, or with another message.
    """
    (mark,) = _MARK.finditer(text)
    line = text.count("\n", 0, mark.start()) + 1
    plain = text[: mark.start()] + text[mark.end() :]
    try:
        gateway.build(frontend, plain, **opts)
    except ToranaError as err:
        assert mark["message"] in err.message, f"other message: {err.message}"
        lines = [span.start.line for excerpt in err.sources[:1] for span in excerpt.ranges]
        assert lines[:1] == [line], f"at lines {lines}, not {line}: {err.message}"
        return err
    raise AssertionError(f"builds, but should fail in line {line}: {mark['message']}")
