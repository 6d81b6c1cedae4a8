"""What `torana frontend list` and `show` print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torana.plugins.installed import Distribution, FoundFrontend
    from torana.plugins.rules import PluginRules

_COLUMNS = ("NAME", "VERSION", "API", "ORIGIN", "SANDBOX", "ALIASES")


def as_rows(frontends: Iterable[FoundFrontend], rules: PluginRules) -> list[dict[str, Any]]:
    """Give one record for each frontend, as `--json` prints them."""
    return [_row(each, rules) for each in frontends]


def _row(found: FoundFrontend, rules: PluginRules) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "api": found.manifest.api,
        "origin": "built-in" if found.is_builtin else "installed",
        "distribution": found.distribution,
        "sandbox": sandbox_of(found, rules),
        "aliases": list(found.manifest.aliases),
        "files": list(found.manifest.files),
        "capabilities": list(found.manifest.capabilities),
        "summary": found.manifest.summary,
        "entryPoint": found.target,
        "problem": found.problem or None,
    }


def sandbox_of(found: FoundFrontend, rules: PluginRules) -> str:
    """Say how a frontend is run."""
    if found.is_builtin or rules.trusts(found.name, found.distribution):
        return "in-process"
    return "confined"


def as_json(
    frontends: Sequence[FoundFrontend], broken: Iterable[Distribution], rules: PluginRules
) -> str:
    document = {
        "frontends": as_rows(frontends, rules),
        "broken": [
            {"distribution": each.name, "version": each.version, "problem": each.problem}
            for each in broken
        ],
        "conflicts": _conflicts(frontends),
    }
    return json.dumps(document, indent=2) + "\n"


def as_table(
    frontends: Sequence[FoundFrontend], broken: Iterable[Distribution], rules: PluginRules
) -> str:
    """Give a table, and below it what is wrong with some."""
    rows = [_COLUMNS, *(_cells(row) for row in as_rows(frontends, rules))]
    problems = [f"{each}: {each.problem}" for each in frontends if each.problem]
    problems += [f"distribution `{each.name}` {each.version}: {each.problem}" for each in broken]
    problems += _conflicts(frontends)
    text = table(rows)
    return text + "".join(f"! {problem}\n" for problem in problems)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    mark = " !" if row["problem"] else ""
    aliases = ", ".join(row["aliases"]) or "-"
    origin = row["origin"] if row["origin"] == "built-in" else row["distribution"]
    return (
        row["name"] + mark,
        row["version"],
        str(row["api"]),
        origin,
        row["sandbox"],
        aliases,
    )


def _conflicts(frontends: Iterable[FoundFrontend], about: FoundFrontend | None = None) -> list[str]:
    """Tell what is taken twice, by `about` among others if that is given."""
    from torana.plugins.selection import conflicts

    return [
        f"{offer}: offered by " + " and ".join(f"`{each.qualified_name}`" for each in offered)
        for offer, offered in conflicts(frontends)
        if about is None or about in offered
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Give columns as wide as they need to be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(lines) + "\n"


def as_page(found: FoundFrontend, frontends: Iterable[FoundFrontend], rules: PluginRules) -> str:
    """Give all that is known of a frontend, one of several: origin, options, an example."""
    from torana.frontends.kit.optiontables import help_of

    manifest = found.manifest
    facts = [
        ("distribution", f"{found.distribution} {found.version}".strip()),
        ("entry point", found.target),
        ("api", str(manifest.api)),
        ("sandbox", sandbox_of(found, rules)),
        ("aliases", ", ".join(manifest.aliases)),
        ("build files", ", ".join(manifest.files)),
        ("capabilities", ", ".join(manifest.capabilities)),
    ]
    title = f"{found.name}: {manifest.summary}" if manifest.summary else found.name
    parts = [f"{title}\n", table([fact for fact in facts if fact[1]])]
    problems = [found.problem] if found.problem else _conflicts(frontends, found)
    if problems:
        parts.append("".join(f"! {problem}\n" for problem in problems))
    if options := help_of(manifest.options):
        parts.append("Options\n" + _indented(options))
    if manifest.example:
        parts.append("Example\n" + _indented(manifest.example.rstrip("\n") + "\n"))
    return "\n".join(parts)


def _indented(text: str) -> str:
    return "".join(f"  {line}".rstrip() + "\n" for line in text.splitlines())
