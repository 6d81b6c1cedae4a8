"""Subrequests: questions about a build file that are answered by metadata instead of a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torana.core.errors import UnsupportedError
from torana.core.oci.image import indented_json
from torana.gateway.client.client import Result

PREFIX: Final = "frontend."
DESCRIBE: Final = "frontend.subrequests.describe"


class UnsupportedRequestError(UnsupportedError):
    """The frontend does not answer this subrequest."""

    code = "SUBREQUEST_UNSUPPORTED"

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported request {name}")
        self.name = name


class UnsupportedFrontendCapError(UnsupportedError):
    """The client needs a frontend capability that this frontend has not got."""

    code = "FRONTEND_CAP_UNSUPPORTED"

    def __init__(self, name: str) -> None:
        super().__init__(f"unsupported frontend capability {name}")
        self.name = name


def answer(
    document: Any, text: str | None, version: str, extra: Mapping[str, bytes] | None = None
) -> Result:
    """Give a result without a reference: the answer as JSON and as text for people."""
    metadata = {"result.json": indented_json(document), "version": version.encode()}
    if text is not None:
        metadata["result.txt"] = text.encode()
    return Result(metadata={**metadata, **(extra or {})})


def describe(requests: Sequence[Mapping[str, Any]]) -> Result:
    """Answer `frontend.subrequests.describe` with the entries of all public requests."""
    rows = [("NAME", "VERSION", "DESCRIPTION")]
    for entry in requests:
        name = str(entry["name"]).removeprefix(PREFIX)
        rows.append((name, entry["version"], entry["description"]))
    return answer(list(requests), table(rows), "1.0.0")


def table(rows: Iterable[Sequence[str]], gap: int = 1) -> str:
    """Align columns; the last cell of a row is never padded."""
    rows = list(rows)
    widths = [max(len(cell) for cell in column) + gap for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("".join(padded) + row[-1] + "\n")
    return "".join(lines)
