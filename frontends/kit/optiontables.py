"""Options for people: the table of `torana frontend show` and `--help`, and that of documents.

Both come from the JSON Schema of the options, which is what a manifest has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torana.frontends.kit.optionspec import spec_of

_HEAD: Final = ("NAME", "TYPE", "DEFAULT", "BUILD ARG", "DESCRIPTION")
_BUILD_ARG: Final = _HEAD.index("BUILD ARG")  # of frontends of the kit, not of all manifests
BEGIN: Final = "<!-- torana options: made by `pytest --update-golden` -->"
END: Final = "<!-- /torana options -->"


def help_of(schema: Mapping[str, Any]) -> str:
    """Give the options of a schema as a table for terminals, empty without any."""
    from torana.frontends.kit.subrequests import table

    rows = [(*row[:_BUILD_ARG], *row[_BUILD_ARG + 1 :]) for row in (_HEAD, *_rows(schema))]
    return table(rows, gap=2) if len(rows) > 1 else ""


def markdown_of(schema: Mapping[str, Any]) -> str:
    """Give the options of a schema as a table for documents, between the marks that keep it."""
    lines = [f"| {' | '.join(name.lower() for name in _HEAD)} |", "|---" * len(_HEAD) + "|"]
    for name, kind, default, build_arg, about in _rows(schema):
        cells = (_code(name), _code(kind), _code(default), _code(build_arg), about)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join((BEGIN, *lines, END))


def renewed(document: str, schema: Mapping[str, Any]) -> str:
    """Put the table between the marks of a document; one without marks is left as it is."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + markdown_of(schema) + after if begin and end else document


def _rows(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str]]:
    for name, member in (schema.get("properties") or {}).items():
        spec = spec_of(name, member, schema)
        default = "(required)" if spec.is_required else spec.shown_default
        yield (name, spec.shown_kind, default, spec.build_arg, spec.help)
    for pattern, member in (schema.get("patternProperties") or {}).items():
        spec = spec_of(f"{pattern.removeprefix('^')}*", member, schema)
        yield (spec.name, spec.shown_kind, spec.shown_default, "", spec.help)


def _code(text: str) -> str:
    return f"`{text}`" if text and text != "(required)" else text
