"""`FakeGateway`: a client whose images, folders and downloads are data; nothing is ever run."""

from __future__ import annotations

import asyncio
import fnmatch
import posixpath
import stat
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Final

from torana.core.errors import CorruptError, NotFoundError, UnsupportedError
from torana.core.llb import ops as o
from torana.core.llb.caps import LLB_CAPS
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.oci.image import compact_json, default_config
from torana.core.oci.platform import Platform, parse_platform
from torana.core.oci.reference import parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.dataclient import DataClient, part
from torana.frontends.kit.testing.built import Built
from torana.gateway.client.client import (
    ResolvedImage,
    Result,
    SolveRequest,
    Stat,
    Warning,
    Worker,
)

Files = Mapping[str, str | bytes]
_PLATFORM: Final = parse_platform("linux/amd64")
_SESSION: Final = "session"


@dataclass(slots=True)
class FakeGateway(DataClient):
    """Answers frontends from data.

    `images` has image configs by reference (the inner `config` object: `{"Env": [...]}`);
    `contexts` has files by path, by the name of the folder that a client offers;
    `urls` has downloads, `modified` their times in seconds; `repositories` has files of git by
    address and commit, branch or tag (`https://example.org/x.git#v1`); `build_args` are given with
    each build. Everything that a frontend asked for is kept.
    """

    images: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contexts: Mapping[str, Files] = field(default_factory=dict)
    urls: Mapping[str, str | bytes] = field(default_factory=dict)
    modified: Mapping[str, int] = field(default_factory=dict)
    repositories: Mapping[str, Files] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Definition] = field(default_factory=dict)
    platform: Platform = _PLATFORM
    options: dict[str, str] = field(default_factory=dict)
    warnings: list[Warning] = field(default_factory=list)
    solved: list[SolveRequest] = field(default_factory=list)
    asked_images: list[str] = field(default_factory=list)
    session_id: str = _SESSION
    llb_caps: frozenset[str] = LLB_CAPS
    refusal: ClassVar[str] = "the test's gateway has no containers"
    gateway_caps: frozenset[str] = frozenset()

    def build(self, frontend: Any, text: str | bytes, **opts: str) -> Built:
        """Run a frontend on a build file; names of options have `_` for `-`.

        Raises:
            ToranaError: what the frontend fails with.
        """
        return asyncio.run(self.building(frontend, text, **opts))

    async def building(self, frontend: Any, text: str | bytes, **opts: str) -> Built:
        """Do the same where a loop runs."""
        return await self.building_with(frontend, text, self.options_of(frontend, opts))

    def options_of(self, frontend: Any, opts: Mapping[str, str]) -> dict[str, str]:
        """Give the options of a build as clients write them."""
        name = getattr(frontend, "filename", "Dockerfile")
        options = {"filename": name, "cmdline": frontend.name}
        options |= {key.replace("_", "-"): value for key, value in opts.items()}
        return options | {f"build-arg:{key}": value for key, value in self.build_args.items()}

    async def building_with(
        self, frontend: Any, text: str | bytes, options: Mapping[str, str]
    ) -> Built:
        """Do the same with options as clients write them."""
        name = options["filename"]
        files = {**self.contexts.get("dockerfile", {}), name: text}
        client = FakeGateway(
            images=self.images,
            contexts={**self.contexts, "dockerfile": files},
            urls=self.urls,
            modified=self.modified,
            repositories=self.repositories,
            given=self.given,
            llb_caps=self.llb_caps,
            gateway_caps=self.gateway_caps,
            platform=self.platform,
            options=dict(options),
            warnings=self.warnings,
            solved=self.solved,
            asked_images=self.asked_images,
        )
        result = await frontend.build(client)
        return await Built.of(result, self.warnings)

    # A client.

    @property
    def worker(self) -> Worker:
        return Worker(id="fake", platforms=(self.platform,))

    def modified_of(self, identifier: str) -> int | None:
        return self.modified.get(identifier)

    async def inputs(self) -> Mapping[str, Definition]:
        return self.given

    async def solve(self, request: SolveRequest) -> Result:
        self.solved.append(request)
        if request.frontend:
            raise UnsupportedError(f"no frontend in this test: `{request.frontend}`")
        if request.definition is None or not request.definition.ops:
            return Result()
        return Result(ref=FakeReference(self, request.definition))

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage:
        name = parse_reference(ref).with_default_tag()
        full = str(name)
        self.asked_images.append(full)
        known = {str(parse_reference(k).with_default_tag()): v for k, v in self.images.items()}
        if full not in known:
            raise NotFoundError(f"{full}: not found", hint="the test's gateway has not this image")
        made = default_config(platform or self.platform)
        made["config"] = {**made["config"], **known[full]}
        config = compact_json(made)
        return ResolvedImage(ref=full, digest=name.digest or Digest.of(config), config=config)

    async def warn(self, warning: Warning) -> None:
        self.warnings.append(warning)


@dataclass(frozen=True, slots=True)
class FakeReference:
    """The tree of a definition, as far as it comes from folders, downloads and made files."""

    gateway: FakeGateway
    made_by: Definition

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = self._files().get(_inside(path))
        if data is None:
            raise NotFoundError(f"open {path}: no such file or directory")
        return part(data, offset, length)

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[Stat]:
        folder = _inside(path)
        prefix = f"{folder}/" if folder else ""
        inside = [name[len(prefix) :] for name in self._files() if name.startswith(prefix)]
        names = sorted({name.partition("/")[0] for name in inside})
        kept = [name for name in names if include is None or fnmatch.fnmatch(name, include)]
        return [await self.stat(prefix + name) for name in kept]

    async def stat(self, path: str) -> Stat:
        name = _inside(path)
        files = self._files()
        if name in files:
            return Stat(
                path=posixpath.basename(name), mode=stat.S_IFREG | 0o644, size=len(files[name])
            )
        if any(other.startswith(f"{name}/" if name else "") for other in files):
            return Stat(path=posixpath.basename(name), mode=stat.S_IFDIR | 0o755)
        raise NotFoundError(f"stat {path}: no such file or directory")

    async def evaluate(self) -> None:
        """Do nothing: nothing is run."""

    async def definition(self) -> Definition | None:
        return self.made_by

    def _files(self) -> dict[str, bytes]:
        ops = self.made_by.decoded()
        *_, terminal = ops.values()
        return self._tree(terminal.inputs[0].digest, ops)

    def _tree(self, digest: Digest, ops: Mapping[Digest, o.Op]) -> dict[str, bytes]:
        op = ops[digest]
        match op.kind:
            case o.SourceOp():
                return self._source(op.kind)
            case o.FileOp():
                files = self._tree(op.inputs[0].digest, ops) if op.inputs else {}
                for item in op.kind.actions:
                    if isinstance(item.action, o.MkFile):
                        files[_inside(item.action.path)] = item.action.data
                return files
        return {}

    def _source(self, source: o.SourceOp) -> dict[str, bytes]:
        scheme, _, name = source.identifier.partition("://")
        if scheme in ("http", "https") and source.identifier in self.gateway.urls:
            data = _bytes(self.gateway.urls[source.identifier])
            wanted = source.attrs.get("http.checksum", "")
            if wanted and str(Digest.of(data)) != wanted:
                raise CorruptError(f"digest mismatch {Digest.of(data)}: {wanted}")
            return {source.attrs.get("http.filename") or posixpath.basename(name): data}
        if scheme == "local" and name in self.gateway.contexts:
            return {_inside(path): _bytes(d) for path, d in self.gateway.contexts[name].items()}
        if scheme == "local":
            return {}
        if scheme == "git":
            return self._checkout(source)
        raise NotFoundError(f"the test's gateway has not this: {source.identifier}")

    def _checkout(self, source: o.SourceOp) -> dict[str, bytes]:
        ref, _, subdir = source.identifier.partition("#")[2].partition(":")
        name = f"{source.attrs.get('git.fullurl', '')}#{ref}"
        if name not in self.gateway.repositories:
            raise NotFoundError(f"the test's gateway has not this repository: {name}")
        folder = f"{_inside(subdir)}/" if subdir else ""
        return {
            _inside(path).removeprefix(folder): _bytes(data)
            for path, data in self.gateway.repositories[name].items()
            if _inside(path).startswith(folder)
        }


def _inside(path: str) -> str:
    return posixpath.normpath(f"/{path}").lstrip("/")


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
