"""Golden cases of the YAML frontend: a build file, and what it becomes as text.

A case is `cases/NAME.yaml`, or a folder `cases/NAME/` with `build.yaml` and what it includes. Lines
`#: KEY=VALUE` on top are frontend options; `#: -cap CAP` takes a capability from the engine.
`NAME.txt` is what is expected: the LLB text of each platform with the image config, or the error
with its excerpt, as `torana build` shows it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.golden.llb.stub_client import StubClient, StubImages, StubReference

from torana.cli.failures import describe
from torana.core.errors import NotFoundError, ToranaError
from torana.core.llb.definition import Definition
from torana.core.llb.render import render
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import parse_reference
from torana.frontends.yaml import YamlFrontend
from torana.gateway.client.client import Result, SolveRequest, Stat

CASES = Path(__file__).parent / "cases"
_AMD64 = Platform(os="linux", architecture="amd64")


class AnyImage(StubImages):
    """Knows every image but `missing`."""

    def find(self, ref: str, platform: Platform | None) -> tuple[Digest, bytes]:
        reference = parse_reference(ref).with_default_tag()
        if reference.name.endswith("/missing"):
            raise NotFoundError(f"{reference}: not found")
        config = {
            **(platform or _AMD64).to_dict(),
            "config": {
                "Env": ["PATH=/usr/bin:/bin", "BASE=yes"],
                "Cmd": ["base"],
                "WorkingDir": "/",
                "Labels": {"base": "yes"},
            },
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(b"layer"))]},
        }
        bare = f"{reference.name}:{reference.tag}".encode()
        digest = reference.digest or Digest.of(bare)
        return digest, json.dumps(config, separators=(",", ":")).encode()


@dataclass(slots=True, eq=False)
class CaseReference(StubReference):
    """Also has what tests of a stage look for: every process prints `ok` and ends well."""

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        printed = {"/stdout": b"ok 1.2.3\n", "/stderr": b"", "/status": b"0\n", "/etc/f": b"text\n"}
        if path in printed:
            return printed[path]
        return await StubReference.read_file(self, path, offset=offset, length=length)

    async def read_dir(self, path: str, *, include: str | None = None) -> list[Stat]:
        return [Stat(path="f", mode=0o100644, size=5)] if path == "/etc" else []

    async def stat(self, path: str) -> Stat:
        if path != "/bin/sh":
            raise NotFoundError(path)
        return Stat(path="sh", mode=0o100755)


@dataclass(slots=True, eq=False)
class CaseClient(StubClient):
    async def solve(self, request: SolveRequest) -> Result:
        reference = CaseReference(self, request, len(self.solves))
        self.solves.append(request)
        return Result(ref=reference)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    folder: Path
    filename: str
    options: Mapping[str, str] = field(default_factory=dict)
    missing_caps: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: Path) -> Case:
        folder, filename = (path, "build.yaml") if path.is_dir() else (path.parent, path.name)
        options: dict[str, str] = {}
        caps = set()
        for line in (folder / filename).read_text("utf-8", "replace").splitlines():
            if line.startswith("#: -cap "):
                caps.add(line.removeprefix("#: -cap ").strip())
            elif line.startswith("#: "):
                key, _, value = line.removeprefix("#: ").partition("=")
                options[key] = value
        return cls(path.stem, folder, filename, options, frozenset(caps))

    @property
    def expected(self) -> Path:
        return CASES / f"{self.name}.txt"

    def client(self) -> CaseClient:
        return CaseClient(
            folder=self.folder,
            images=AnyImage({}),
            options={"filename": self.filename, **self.options},
            disabled_caps=self.missing_caps,
            locals={"dockerfile": ".", "context": "."},
        )

    async def run(self) -> str:
        """Build it; gives what is compared."""
        client = self.client()
        try:
            result = await YamlFrontend().build(client)
        except ToranaError as err:
            return f"{describe(err)}\n"
        if "requestid" in self.options:
            return result.metadata.get("result.txt", result.metadata["result.json"]).decode()
        return "".join((*_results(result), *_tests(client), *_warnings(client)))


def _results(result: Result) -> list[str]:
    refs = result.refs or {"": result.ref}
    parts = []
    for id_, ref in refs.items():
        assert isinstance(ref, StubReference)
        suffix = f"/{id_}" if id_ else ""
        config = json.loads(result.metadata[f"containerimage.config{suffix}"])
        head = f"== {id_}\n" if id_ else ""
        llb = render(ref.request.definition or Definition())
        parts.append(f"{head}{llb}config {json.dumps(config)}\n")
    return parts


def _tests(client: CaseClient) -> list[str]:
    parts = []
    for request in client.solves:
        if request.definition is not None and "output of" in render(request.definition):
            parts.append(f"-- test\n{render(request.definition)}")
    return parts


def _warnings(client: CaseClient) -> list[str]:
    return [
        f"warning: line {warning.ranges[0].start.line}: {warning.short}\n"
        for warning in client.warnings
    ]


def all_cases() -> list[Path]:
    """Give the paths of all cases, sorted."""
    found = [path for path in CASES.iterdir() if path.suffix == ".yaml" or path.is_dir()]
    return sorted(found, key=lambda path: path.stem)
