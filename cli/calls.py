"""`--call` and `--check`: questions about a build file instead of a build, and their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from torana.core.errors import UsageError
from torana.core.records import dataclass
from torana.frontends.kit.values import parse_bool

_REQUESTS: Final = {
    "check": "frontend.lint",
    "lint": "frontend.lint",
    "outline": "frontend.outline",
    "targets": "frontend.targets",
    "subrequests.describe": "frontend.subrequests.describe",
}
_LINT: Final = "frontend.lint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A question: the subrequest of the frontend, and how its answer is shown."""

    request: str
    is_json: bool = False
    ignores_status: bool = False


def parse_call(text: str | None, *, is_check: bool = False) -> Call | None:
    """Read `METHOD[,format=text|json][,ignorestatus=BOOL]`; None for an ordinary build.

    Raises:
        UsageError: an unknown method or option, or `--check` and another method.
    """
    name, *options = (text or ("check" if is_check else "build")).split(",")
    if is_check and name not in ("check", "lint"):
        raise UsageError(f"--check and --call contradict each other: `{text}`")
    is_json = ignores_status = False
    for option in options:
        key, _, value = option.partition("=")
        if key == "format" and value in ("text", "json"):
            is_json = value == "json"
        elif key == "ignorestatus" and (wanted := parse_bool(value or "true")) is not None:
            ignores_status = wanted
        else:
            raise UsageError(f"invalid --call: unknown option: `{option}`")
    if name == "build":
        return None
    name = name.removeprefix("frontend.")
    if name not in _REQUESTS:
        raise UsageError(
            f"invalid --call: unknown method: `{name}`",
            hint=f"methods are build, {', '.join(_REQUESTS)}",
        )
    return Call(request=_REQUESTS[name], is_json=is_json, ignores_status=ignores_status)


def show(call: Call, answer: Mapping[str, bytes]) -> tuple[str, int]:
    """Give the text for standard output and the exit code."""
    status = 0 if call.ignores_status else int(answer.get("result.statuscode", b"0") or 0)
    if call.is_json:
        return answer.get("result.json", b"").decode() + "\n", status
    text = answer.get("result.txt", b"").decode()
    return (_lint_text(answer, text) if call.request == _LINT else text), status


def _lint_text(answer: Mapping[str, bytes], text: str) -> str:
    document: Mapping[str, Any] = json.loads(answer.get("result.json", b"{}"))
    count = len(document.get("warnings") or ())
    failure = document.get("buildError")
    if count:
        found = "1 warning has been found" if count == 1 else f"{count} warnings have been found"
        head = f"Check complete, {found}!\n"
    else:
        head = "" if failure else "Check complete, no warnings found.\n"
    tail = f"\nERROR: {failure['message']}\n" if failure else ""
    return head + text + tail
