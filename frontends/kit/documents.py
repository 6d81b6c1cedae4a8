"""Parts of the JSON documents that answer subrequests, in the form of Go's own JSON.

Spec: lint reference, section 4.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torana.core.errors import SourceRange, ToranaError
from torana.core.llb.definition import Definition
from torana.core.llb.jsonform import in_order, to_json
from torana.frontends.kit.diagnostics import SourceFile

_METADATA: Final = (
    "ignore_cache",
    "description",
    "export_cache",
    "caps",
    "progress_group",
    "linux_resources",
)


def request_entry(name: str, version: str, about: str, opts: Any) -> dict[str, Any]:
    """Give what `frontend.subrequests.describe` lists of a request."""
    return {
        "name": name,
        "version": version,
        "type": "rpc",
        "description": about,
        "opts": opts,
        "inputs": None,
        "metadata": [
            {"name": "result.json", "description": ""},
            {"name": "result.txt", "description": ""},
        ],
        "refs": None,
    }


def location(ranges: Iterable[SourceRange]) -> dict[str, Any]:
    return {
        "ranges": [
            {"start": {"line": span.start.line}, "end": {"line": span.end.line}} for span in ranges
        ]
    }


def present(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is empty."""
    return {name: value for name, value in entry.items() if value}


def source_text(file: SourceFile) -> str:
    return base64.b64encode(file.data).decode()


def lint_source(file: SourceFile) -> dict[str, Any]:
    """Give a build file with the definition that loads it."""
    definition = file.definition or Definition()
    return {
        "filename": file.filename,
        "data": source_text(file),
        "definition": {
            "def": [base64.b64encode(raw).decode() for raw in definition.ops],
            "metadata": op_metadata(definition),
            "Source": _no_locations(definition),
        },
        "language": file.language,
    }


def build_error(failure: ToranaError) -> dict[str, Any]:
    """Give what a lint answer says of a file that cannot be built."""
    ranges = [span for excerpt in failure.sources for span in excerpt.ranges]
    where = location(joined(ranges)) if ranges else {}
    return {"message": failure.message, "location": where}


def op_metadata(definition: Definition) -> dict[str, Any]:
    """Give the metadata of all ops by digest, members in the order of the schema."""
    metadata = {}
    for digest in sorted(definition.metadata):
        entry = to_json(definition.metadata[digest])
        metadata[str(digest)] = {name: entry[name] for name in _METADATA if name in entry}
    return metadata


def converted(definition: Definition, file: SourceFile) -> dict[str, Any]:
    """Give LLB as the answer to `frontend.convertllb`, ops by digest."""
    ops = definition.decoded()
    return {
        "def": {digest: in_order(ops[digest]) for digest in sorted(ops)},
        "metadata": op_metadata(definition),
        "source": _source(definition, file),
    }


def joined(ranges: Sequence[SourceRange]) -> list[SourceRange]:
    """Sort ranges and join those that overlap."""
    out: list[SourceRange] = []
    for span in sorted(ranges, key=lambda item: (item.start, item.end)):
        if out and span.start <= out[-1].end:
            end = max(out[-1].end, span.end)
            out[-1] = SourceRange(span.filename, out[-1].start, end)
        else:
            out.append(span)
    return out


def _no_locations(definition: Definition) -> dict[str, Any]:
    """Give the source map of the load of a build file, which has no place in any file."""
    return {"locations": {digest: {} for digest in sorted(definition.digests()[:-1])}}


def _source(definition: Definition, file: SourceFile) -> dict[str, Any]:
    if definition.source is None:
        return {}
    source = in_order(definition.source)
    if "locations" in source:
        source["locations"] = present(source["locations"])
    for info in source.get("infos", ()):
        if "definition" in info:
            info["definition"]["Source"] = _no_locations(file.definition or Definition())
    return source
