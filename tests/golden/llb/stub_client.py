"""The stub client of the golden cases: knows a few images, answers solves, never runs anything.

Spec: README of the `llb-golden` fixtures, "The stub client".
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden.llb.wire import decode_op

from torana.core.errors import NotFoundError
from torana.core.llb.caps import LLB_CAPS
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import parse_reference
from torana.gateway.client.client import (
    ResolvedImage,
    ResolvedSource,
    Result,
    SolveRequest,
    Stat,
    Warning,
    Worker,
)
from torana.gateway.client.containers import Container, ContainerSpec

AMD64 = Platform(os="linux", architecture="amd64")
GATEWAY_CAPS = frozenset(
    """
    proto.base frontend.inputs frontend.caps resolveimage resolveimage.oci-layout readfile readdir
    statfile importcaches exec gateway.solve gateway.warnings sourcemeta attestations
    """.split()
)


@dataclass(slots=True)
class StubImages:
    """The images that the stub registry knows, by normalised reference."""

    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, path: Path) -> StubImages:
        return cls({entry["ref"]: entry for entry in json.loads(path.read_bytes())})

    def find(self, ref: str, platform: Platform | None) -> tuple[Digest, bytes]:
        reference = parse_reference(ref).with_default_tag()
        entry = self.entries.get(str(reference))
        if entry is None and reference.digest is not None:
            bare = str(reference).partition("@")[0]
            entry = self.entries.get(str(parse_reference(bare).with_default_tag()))
        if entry is None:
            raise NotFoundError(f"{reference}: not found")
        config = dict(entry["config"])
        if not entry["fixed_platform"]:
            wanted = platform or AMD64
            config.pop("variant", None)
            config |= {"os": wanted.os, "architecture": wanted.architecture}
            if wanted.variant:
                config["variant"] = wanted.variant
        text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return Digest(entry["digest"]), text.encode()


@dataclass(slots=True, eq=False)
class StubReference:
    """The answer to one solve; files can be read where no step has to run."""

    client: StubClient
    request: SolveRequest
    index: int

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = self._read(path.lstrip("/"))
        if data is None:
            raise NotFoundError(f"open {path.lstrip('/')}: no such file or directory")
        return data[offset:] if length is None else data[offset : offset + length]

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        raise NotImplementedError("the stub lists nothing")

    async def stat(self, path: str) -> Stat:
        raise NotImplementedError("the stub knows no metadata")

    async def evaluate(self) -> None:
        return None

    async def definition(self) -> Definition | None:
        return self.request.definition

    def _read(self, path: str) -> bytes | None:
        definition = self.request.definition
        if definition is None or not definition.ops:
            return None
        ops = {Digest.of(raw): decode_op(raw) for raw in definition.ops}
        terminal = decode_op(definition.ops[-1])
        last = ops[terminal["inputs"][0]["digest"]]
        actions = last.get("file", {}).get("actions", ())
        if len(actions) == 1 and "copy" in actions[0]:
            copied = ops[last["inputs"][-1]["digest"]]
            if actions[0]["copy"].get("attemptUnpackDockerCompatibility"):
                return self._unpacked(copied, actions[0]["copy"]["src"], path)
            return self.client.read_op(copied, path)
        return self.client.read_op(last, path)

    def _unpacked(self, op: Mapping[str, Any], archive: str, path: str) -> bytes | None:
        data = self.client.read_op(op, archive.lstrip("/"))
        if data is None:
            return None
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            member = next((m for m in tar if m.name.removeprefix("./") == path), None)
            file = None if member is None else tar.extractfile(member)
            return None if file is None else file.read()


@dataclass(slots=True, eq=False)
class StubClient:
    """A client for one case; what it was asked is in `solves`, `resolves` and `warnings`."""

    folder: Path
    images: StubImages
    options: Mapping[str, str]
    session_id: str = "golden-session"
    build_platform: Platform = AMD64
    disabled_caps: frozenset[str] = frozenset()
    locals: Mapping[str, str] = field(default_factory=dict)
    http: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    git: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    named_inputs: Mapping[str, Definition] = field(default_factory=dict)
    solves: list[SolveRequest] = field(default_factory=list)
    references: list[StubReference] = field(default_factory=list)
    resolves: list[dict[str, str]] = field(default_factory=list)
    warnings: list[Warning] = field(default_factory=list)

    @property
    def workers(self) -> Sequence[Worker]:
        return (Worker(id="stub", platforms=(self.build_platform,)),)

    @property
    def llb_caps(self) -> frozenset[str]:
        return LLB_CAPS - self.disabled_caps

    @property
    def gateway_caps(self) -> frozenset[str]:
        return GATEWAY_CAPS

    async def inputs(self) -> Mapping[str, Definition]:
        return self.named_inputs

    async def solve(self, request: SolveRequest) -> Result:
        reference = StubReference(self, request, len(self.solves))
        self.solves.append(request)
        self.references.append(reference)
        metadata = {"forwarded": request.frontend.encode()} if request.frontend else {}
        return Result(ref=reference, metadata=metadata)

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage:
        row = {"ref": str(parse_reference(ref).with_default_tag())}
        if platform is not None:
            row["platform"] = platform.format()
        row |= {"resolve_mode": resolve_mode, "log_name": log_name, "via": "image"}
        self.resolves.append(row)
        digest, config = self.images.find(ref, platform)
        return ResolvedImage(ref=ref, digest=digest, config=config)

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> ResolvedSource:
        scheme, _, rest = identifier.partition("://")
        row = {"ref": identifier}
        if platform is not None:
            row["platform"] = platform.format()
        row |= {"log_name": log_name, "via": "source-metadata"}
        if scheme == "oci-layout":
            row |= {"ref": rest, "via": "oci-layout", "oci_store": attrs.get("oci.store", "")}
        self.resolves.append(row)
        image = None
        if scheme in ("docker-image", "oci-layout"):
            digest, config = self.images.find(rest, platform)
            image = ResolvedImage(ref=rest, digest=digest, config=config)
        commit = self.git.get(attrs.get("git.fullurl", ""), {}).get("commit_time")
        return ResolvedSource(
            identifier=identifier,
            attrs=attrs,
            image=image,
            git_commit_object=None if commit is None else _commit(commit),
            http_last_modified=self.http.get(identifier, {}).get("last_modified"),
        )

    async def new_container(self, spec: ContainerSpec) -> Container:
        raise NotImplementedError

    async def warn(self, warning: Warning) -> None:
        self.warnings.append(warning)

    def read_op(self, op: Mapping[str, Any], path: str) -> bytes | None:
        """Read `path` from the output of an op that needs no running; None: no such file."""
        actions = op.get("file", {}).get("actions", ())
        if len(actions) == 1 and "mkfile" in actions[0]:
            made = actions[0]["mkfile"]
            return base64.b64decode(made["data"]) if made["path"].lstrip("/") == path else None
        source = op.get("source", {})
        scheme, _, rest = source.get("identifier", "").partition("://")
        if scheme == "local":
            return _read(self.folder / self.locals.get(rest, "context") / path)
        if scheme == "git":
            return _read(self.folder / "context" / path)
        if scheme in ("http", "https"):
            return self._download(source, path)
        return None

    def _download(self, source: Mapping[str, Any], path: str) -> bytes | None:
        body = self.http.get(source["identifier"])
        if body is None or source.get("attrs", {}).get("http.filename") != path:
            return None
        if "data_b64" in body:
            return base64.b64decode(body["data_b64"])
        return str(body["data"]).encode()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _commit(time: int) -> bytes:
    who = f"Stub <stub@example.com> {time} +0000"
    return f"tree {'0' * 40}\nauthor {who}\ncommitter {who}\n\nstub\n".encode()
