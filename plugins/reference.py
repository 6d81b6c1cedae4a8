"""`hook_reference`: `docs/hooks.md`, made of the specifications.

`python -m torana.plugins.reference > docs/hooks.md` writes it anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

from torana.plugins import hookspecs

_FACTS: Final = ("Named by", "Built in", "Conformance")


def hook_reference() -> str:
    """Give the page."""
    return "\n".join(_page()) + "\n"


def specifications() -> list[Callable[..., Any]]:
    """Give all specifications in the order in which they are written."""
    return [
        member
        for name, member in vars(hookspecs).items()
        if name.startswith("torana_") and inspect.isfunction(member)
    ]


def _page() -> Iterator[str]:
    yield "# Hooks"
    yield ""
    yield "<!-- Made by `python -m torana.plugins.reference`: change `plugins/hookspecs.py`. -->"
    yield ""
    intro, *paragraphs = inspect.cleandoc(hookspecs.__doc__ or "").split("\n\n")
    yield _line(intro)
    for paragraph in paragraphs[:-1]:
        yield ""
        yield _line(paragraph)
    for hook in specifications():
        yield ""
        yield from _hook(hook)


def _hook(hook: Callable[..., Any]) -> Iterator[str]:
    yield f"## {hook.__name__}"
    yield ""
    yield "```python"
    yield f"def {hook.__name__}{_signature(hook)}"
    yield "```"
    facts = []
    for paragraph in inspect.cleandoc(hook.__doc__ or "").split("\n\n"):
        if paragraph.startswith(_FACTS):
            facts += _split(paragraph)
            continue
        yield ""
        yield _line(paragraph)
    if facts:
        yield ""
        yield "| | |"
        yield "|---|---|"
        for name, text in facts:
            yield f"| {name} | {text} |"


def _signature(hook: Callable[..., Any]) -> str:
    signature = inspect.signature(hook)
    parameters = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    return f"({parameters}) -> {signature.return_annotation}"


def _split(paragraph: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in paragraph.splitlines():
        name, colon, text = line.partition(": ")
        if colon and name in _FACTS:
            found.append((name, text.rstrip(".")))
        else:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip().rstrip('.')}")
    return found


def _line(paragraph: str) -> str:
    return " ".join(paragraph.split())


if __name__ == "__main__":
    print(hook_reference(), end="")
