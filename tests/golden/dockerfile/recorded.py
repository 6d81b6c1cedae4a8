"""Recorded cases: a text file of build requests, and what BuildKit's own frontend made of them.

A case in `cases.txt` begins with `=== IDS | title`; lines with `@` after it are directives:

    @ opt KEY=VALUE              a frontend option
    @ file NAME                  where the Dockerfile's text goes  [Dockerfile]
    @ ignore PATTERN             a line of .dockerignore
    @ ignore-of FILE PATTERN     a line of FILE.dockerignore
    @ local NAME                 a further folder of that name
    @ ignore-in NAME PATTERN     a line of that folder's .dockerignore
    @ input NAME                 a frontend input
    @ http URL                   a download with the Dockerfile's text
    @ git URL SECONDS            the time of a commit
    @ build-platform PLATFORM
    @ without CAPABILITY         an LLB capability that the engine lacks
    @ escapes                    `\\r`, `\\t`, `\\ufeff` in the text stand for characters
    @ repeat N                   `%%` in the text stands for N letters

The rest is the Dockerfile. `expected.json` has a summary of each case in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recorded"
_ESCAPES = {"\\r": "\r", "\\t": "\t", "\\ufeff": "\ufeff"}


@dataclass(slots=True)
class Case:
    """One build request; `files` are texts by path, relative to the case's folder."""

    ids: tuple[str, ...]
    title: str
    options: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    locals: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    http: dict[str, dict[str, Any]] = field(default_factory=dict)
    git: dict[str, dict[str, Any]] = field(default_factory=dict)
    build_platform: str = ""
    missing_caps: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{'-'.join(self.ids)} {self.title}"

    def request(self, folder: Path) -> dict[str, Any]:
        """Write the files and give the request in the form of the golden cases."""
        for name, text in self.files.items():
            path = folder / "context" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, newline="")
        return {
            "opts": self.options,
            "locals": self.locals,
            "inputs": self.inputs,
            "http": self.http,
            "git": self.git,
            "build_platform": self.build_platform,
            "disabled_llb_caps": self.missing_caps,
        }


def read_cases() -> list[Case]:
    """Give all cases in order."""
    blocks = (FOLDER / "cases.txt").read_text(encoding="utf-8").split("\n=== ")
    return [_case(block) for block in blocks if block.strip()]


def _case(block: str) -> Case:
    head, _, rest = block.removeprefix("=== ").partition("\n")
    ids, _, title = head.partition(" | ")
    case = Case(tuple(ids.split()), title)
    lines = rest.split("\n")
    file, has_escapes, repeat = "Dockerfile", False, 0
    ignored: dict[str, list[str]] = {}
    http = ""
    while lines and lines[0].startswith("@ "):
        word, _, rest = lines.pop(0)[2:].partition(" ")
        first, _, second = rest.partition(" ")
        match word:
            case "opt":
                key, _, value = rest.partition("=")
                if rest.startswith(("context:base::", "context:alpine:latest")):
                    key, _, value = rest.partition("=docker")
                    value = f"docker{value}"
                case.options[key] = value
            case "file":
                file = rest
            case "ignore":
                ignored.setdefault(".dockerignore", []).append(rest)
            case "ignore-of":
                ignored.setdefault(f"{first}.dockerignore", []).append(second)
            case "local":
                case.locals[rest] = rest
            case "ignore-in":
                ignored.setdefault(f"../{first}/.dockerignore", []).append(second)
            case "input":
                case.inputs[rest] = {"path": "/file", "data": "x"}
            case "http":
                http = rest
            case "git":
                case.git[first] = {"commit_time": int(second)}
            case "build-platform":
                case.build_platform = rest
            case "without":
                case.missing_caps.append(rest)
            case "escapes":
                has_escapes = True
            case "repeat":
                repeat = int(rest)
            case _:
                raise ValueError(f"unknown directive: {word}")
    text = "\n".join(lines)
    text += "\n" if text else ""
    if has_escapes:
        for written, character in _ESCAPES.items():
            text = text.replace(written, character)
        text = text.removesuffix("\\\n") if text.endswith("\\\n") else text
    text = text.replace("%%", "x" * repeat) if repeat else text
    if http:
        case.http[http] = {"data": text}
    else:
        case.files[file] = text
    case.files |= {name: "".join(f"{line}\n" for line in rows) for name, rows in ignored.items()}
    return case


def summarize(report: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is compared of a report in the form of the golden cases: no digests."""
    out: dict[str, Any] = {}
    if error := report.get("error"):
        places = [source["lines"] for source in error.get("sources") or ()]
        out["error"] = {"message": error["message"], "places": places}
    if warnings := report.get("warnings"):
        rows = [[w["short"], w.get("url", ""), w["lines"]] for w in warnings]
        out["warnings"] = sorted(rows, key=lambda row: (row[2], row[0]))
    if resolves := report.get("resolves"):
        out["resolves"] = resolves
    solves = [_solve(solve) for solve in report.get("solves") or ()]
    solves = [solve for solve in solves if solve not in _USUAL]
    if len((report.get("result") or {}).get("refs") or ()) > 1:
        solves.sort(key=json.dumps)  # platforms are solved side by side
    if solves:
        out["solves"] = solves
    if result := report.get("result"):
        out["result"] = _result(result)
    return out


def _solve(solve: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in solve.items() if key not in ("index", "ops")}
    kept.pop("source_infos", None)
    kept.pop("frontend_inputs", None)
    ops = [_op(op) for op in solve.get("ops", ())[:-1]]
    return {**kept, **({"ops": ops} if ops else {})}


def _op(entry: Mapping[str, Any]) -> dict[str, Any]:
    metadata = dict(entry.get("metadata") or {})
    name = metadata.get("description", {}).get("llb.customname", "")
    out: dict[str, Any] = {"name": name} if name else {}
    for key in ("ignore_cache", "linux_resources"):
        if key in metadata:
            out[key] = metadata[key]
    out |= {
        key: value for key, value in entry["op"].items() if key not in ("constraints", "inputs")
    }
    if places := [lines["lines"] for lines in entry.get("locations", ()) if lines["lines"]]:
        out["lines"] = places
    if platform := out.get("platform"):
        out["platform"] = "/".join(
            platform[key]
            for key in ("OS", "OSVersion", "Architecture", "Variant")
            if key in platform
        )
    return out


def _usual() -> Iterator[dict[str, Any]]:
    """Give the loads of an ordinary build file and ignore file, which say nothing."""
    session = {"local.session": "golden-session", "local.differ": "none"}
    build_file = {
        **session,
        "local.followpaths": '["Dockerfile","Dockerfile.dockerignore","dockerfile"]',
        "local.sharedkeyhint": "dockerfile",
    }
    ignore_file = {
        **session,
        "local.followpaths": '[".dockerignore"]',
        "local.sharedkeyhint": "context-.dockerignore",
    }
    for name, local, attrs in (
        ("[internal] load build definition from Dockerfile", "dockerfile", build_file),
        ("[internal] load .dockerignore", "context", ignore_file),
    ):
        source = {"identifier": f"local://{local}", "attrs": attrs}
        yield {"ops": [{"name": name, "source": source}]}


_USUAL = list(_usual())


def _result(result: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {}
    for key, value in result["metadata"].items():
        if "containerimage.base.config" in key or key == "result.txt":
            continue
        try:
            metadata[key] = json.loads(value)
        except ValueError:
            metadata[key] = value
        if "containerimage.config" in key:
            metadata[key].pop("rootfs", None)
            history = [row for row in metadata[key].pop("history", ()) if "comment" in row]
            metadata[key]["history"] = [_history(row) for row in history]
        elif key == "result.json":
            metadata[key] = _answer(metadata[key])
    out: dict[str, Any] = {"metadata": metadata}
    if "refs" in result:
        out["refs"] = sorted(result["refs"])
    if "attestations" in result:
        out["attestations"] = {
            key: [{"metadata": entry["metadata"]} for entry in entries]
            for key, entries in result["attestations"].items()
        }
    return out


def _history(row: Mapping[str, Any]) -> str:
    marks = ["empty"] if row.get("empty_layer") else []
    marks += [row["created"]] if "created" in row else []
    return " ".join([row["created_by"], *(f"({mark})" for mark in marks)])


def _answer(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _answer(value) for key, value in document.items() if key != "sources"}
    return [_answer(item) for item in document] if isinstance(document, list) else document
