"""One golden case: build it against the stub client, put what happened into the golden form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden.llb.stub_client import AMD64, StubClient, StubImages, StubReference
from tests.golden.llb.wire import decode_op

from torana.core.errors import SourceExcerpt, SourceRange, ToranaError
from torana.core.llb.definition import Definition, Range
from torana.core.llb.state import mkfile, scratch
from torana.core.oci.digest import Digest
from torana.core.oci.platform import parse_platform
from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.kit.diagnostics import render_excerpt
from torana.gateway.client.client import Result

GOLDEN_DIR = Path(__file__).resolve().parents[2] / "data" / "llb-golden"


@dataclass(frozen=True, slots=True)
class Case:
    """A folder of the fixtures."""

    folder: Path
    request: Mapping[str, Any]
    expected: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Case:
        request = json.loads((folder / "case.json").read_bytes())
        return cls(folder, request, json.loads((folder / "golden.json").read_bytes()))

    def client(self) -> StubClient:
        request = self.request
        platform = request.get("build_platform")
        return StubClient(
            folder=self.folder,
            images=StubImages.load(GOLDEN_DIR / "stub-images.json"),
            options=request.get("opts") or {},
            session_id=request.get("session_id", "golden-session"),
            build_platform=parse_platform(platform).normalized() if platform else AMD64,
            disabled_caps=frozenset(request.get("disabled_llb_caps") or ()),
            locals=request.get("locals") or {},
            http=request.get("http") or {},
            git=request.get("git") or {},
            named_inputs={
                name: _input(name, entry["path"], entry["data"])
                for name, entry in (request.get("inputs") or {}).items()
            },
        )


def cases() -> list[Path]:
    """Give the folders of all cases, sorted."""
    return sorted(path.parent for path in GOLDEN_DIR.glob("*/case.json"))


def _input(name: str, path: str, data: str) -> Definition:
    state = scratch().file(mkfile(path, data.encode(), mode=0o644), custom_name=f"input {name}")
    return state.marshal(platform=AMD64)


@dataclass(slots=True)
class Observed:
    """What a build did."""

    client: StubClient
    result: Result | None = None
    error: ToranaError | None = None
    groups: dict[str, str] = field(default_factory=dict)

    @classmethod
    async def of(cls, client: StubClient, frontend: Any = None) -> Observed:
        """Build with `frontend`, the Dockerfile frontend in this process if it is None."""
        observed = cls(client)
        try:
            observed.result = await (frontend or DockerfileFrontend()).build(client)
        except ToranaError as err:
            observed.error = err
        return observed

    def report(self) -> dict[str, Any]:
        """Give everything in the form of golden.json, in the order in which it is compared."""
        report: dict[str, Any] = {}
        if self.error is not None:
            report["error"] = {
                "message": self.error.message,
                "sources": [_source(excerpt) for excerpt in self.error.sources] or None,
            }
        if self.client.named_inputs:
            report["inputs"] = {
                name: {"ops": self._ops(definition)}
                for name, definition in self.client.named_inputs.items()
            }
        report["solves"] = [self._solve(index) for index in range(len(self.client.solves))]
        if self.client.warnings:
            report["warnings"] = [
                {
                    "vertex": str(warning.vertex),
                    "level": warning.level,
                    "short": warning.short,
                    "detail": list(warning.detail),
                    **({"url": warning.url} if warning.url else {}),
                    "lines": _lines(warning.ranges),
                }
                for warning in self.client.warnings
            ]
        report["resolves"] = self._resolves()
        if self.result is not None:
            report["result"] = self._result(self.result)
        return report

    def _resolves(self) -> list[dict[str, str]]:
        unique = {json.dumps(row, sort_keys=True): row for row in self.client.resolves}
        return sorted(unique.values(), key=lambda row: (row["ref"], row.get("platform", "")))

    def _solve(self, index: int) -> dict[str, Any]:
        request = self.client.solves[index]
        out: dict[str, Any] = {"index": index}
        if request.evaluate:
            out["evaluate"] = True
        if request.frontend:
            out["frontend"] = request.frontend
            out["frontend_opt"] = dict(request.frontend_opt)
        if request.frontend_inputs:
            out["frontend_inputs"] = {
                name: [str(Digest.of(raw)) for raw in definition.ops]
                for name, definition in request.frontend_inputs.items()
            }
        if request.cache_imports:
            out["cache_imports"] = [
                {"type": entry.type, "attrs": dict(entry.attrs)} for entry in request.cache_imports
            ]
        definition = request.definition
        if definition is not None and definition.ops:
            if definition.source is not None and definition.source.infos:
                out["source_infos"] = [_info(info) for info in definition.source.infos]
            out["ops"] = self._ops(definition)
        return out

    def _ops(self, definition: Definition) -> list[dict[str, Any]]:
        return [self._op(definition, index, raw) for index, raw in enumerate(definition.ops)]

    def _op(self, definition: Definition, index: int, raw: bytes) -> dict[str, Any]:
        digest = Digest.of(raw)
        out: dict[str, Any] = {"index": index, "digest": str(digest), "op": decode_op(raw)}
        if (metadata := definition.metadata.get(digest)) is not None:
            out["metadata"] = self._metadata(metadata)
        found = definition.source.locations.get(digest) if definition.source else None
        locations = found.locations if found else ()
        if locations:
            out["locations"] = [
                {"source": location.source_index, "lines": _lines(location.ranges) or None}
                for location in locations
            ]
        if index == len(definition.ops) - 1:
            out["terminal"] = True
        return out

    def _metadata(self, metadata: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if metadata.ignore_cache:
            out["ignore_cache"] = True
        if metadata.description:
            out["description"] = dict(metadata.description)
        if metadata.caps:
            out["caps"] = {name: True for name in sorted(metadata.caps)}
        if (group := metadata.progress_group) is not None:
            alias = self.groups.setdefault(group.id, f"progress-group-{len(self.groups)}")
            out["progress_group"] = {"id": alias, "name": group.name}
            if group.weak:
                out["progress_group"]["weak"] = True
        if (limits := metadata.linux_resources) is not None:
            out["linux_resources"] = _resources(limits)
        return out

    def _result(self, result: Result) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if result.refs:
            out["refs"] = {name: self._index(ref) for name, ref in result.refs.items()}
        elif result.ref is not None:
            out["ref"] = self._index(result.ref)
        out["metadata"] = {name: value.decode() for name, value in result.metadata.items()}
        if result.attestations:
            out["attestations"] = {
                name: [
                    {
                        "kind": entry.kind.capitalize(),
                        "predicate_type": entry.predicate_type,
                        "metadata": {key: data.decode() for key, data in entry.metadata.items()},
                        "ref": self._index(entry.ref),
                    }
                    for entry in entries
                ]
                for name, entries in result.attestations.items()
            }
        return out

    @staticmethod
    def _index(ref: Any) -> int | None:
        return ref.index if isinstance(ref, StubReference) else None


_RESOURCES = {
    "memory": "memory",
    "memory_swap": "memorySwap",
    "cpu_shares": "cpuShares",
    "cpu_period": "cpuPeriod",
    "cpu_quota": "cpuQuota",
    "cpuset_cpus": "cpusetCpus",
    "cpuset_mems": "cpusetMems",
}


def _resources(limits: Any) -> dict[str, str]:
    values = {name: getattr(limits, attribute) for attribute, name in _RESOURCES.items()}
    return {name: str(value) for name, value in values.items() if value}


def _info(info: Any) -> dict[str, Any]:
    out: dict[str, Any] = {"filename": info.filename}
    if info.language:
        out["language"] = info.language
    out["data_digest"] = str(Digest.of(info.data))
    if info.definition is not None:
        out["definition"] = [str(Digest.of(raw)) for raw in info.definition.ops]
    return out


def _source(excerpt: SourceExcerpt) -> dict[str, Any]:
    return {
        "filename": excerpt.filename,
        "lines": _lines(excerpt.ranges),
        "rendered": render_excerpt(excerpt),
    }


def _lines(ranges: Iterable[SourceRange | Range]) -> list[list[int]]:
    return [[span.start.line, span.end.line] for span in ranges]


def expected_report(golden: Mapping[str, Any]) -> dict[str, Any]:
    """Give the part of golden.json that is compared."""
    report: dict[str, Any] = {}
    if "error" in golden:
        report["error"] = golden["error"]
    if golden.get("inputs"):
        report["inputs"] = {
            name: {"ops": [_bare(op) for op in entry["ops"]]}
            for name, entry in golden["inputs"].items()
        }
    report["solves"] = [
        {
            key: [_bare(op) for op in value] if key == "ops" else value
            for key, value in solve.items()
            if value is not None
        }
        for solve in golden.get("solves") or ()
    ]
    if golden.get("warnings"):
        report["warnings"] = golden["warnings"]
    report["resolves"] = golden.get("resolves") or []
    if "result" in golden:
        report["result"] = {
            key: value for key, value in golden["result"].items() if key != "metadata_decoded"
        }
        report["result"].setdefault("metadata", {})
    return report


def _bare(op: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in op.items() if key != "raw"}
