"""`Built`: what a frontend made, with assertions whose failures show the LLB."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.render import render
from torana.core.oci.digest import Digest
from torana.core.records import dataclass
from torana.gateway.client.client import Attestation, Result, Warning

_LEFT_OUT = ("    digest ", "    needs ")


@dataclass(frozen=True, slots=True)
class Built:
    """The LLB and the metadata of a result, by platform id; one without platforms has id ``."""

    definitions: Mapping[str, Definition]
    metadata: Mapping[str, bytes]
    warnings: Sequence[Warning] = ()
    attestations: Mapping[str, Sequence[Attestation]] = field(default_factory=dict)

    @classmethod
    async def of(cls, result: Result, warnings: Sequence[Warning] = ()) -> Built:
        refs = dict(result.refs) or ({"": result.ref} if result.ref is not None else {})
        found = {}
        for key, ref in refs.items():
            found[key] = (None if ref is None else await ref.definition()) or Definition()
        return cls(found, dict(result.metadata), tuple(warnings), dict(result.attestations))

    @property
    def definition(self) -> Definition:
        """The LLB, of a result for one platform."""
        if not self.definitions:
            return Definition()
        (definition,) = self.definitions.values()
        return definition

    @property
    def platforms(self) -> list[str]:
        """The ids of the platforms, in the order of the result."""
        told = json.loads(self.metadata.get("refs.platforms", b'{"Platforms":[]}'))
        return [str(entry["ID"]) for entry in told["Platforms"]]

    @property
    def config(self) -> dict[str, Any]:
        """The inner image config (`Env`, `Cmd`, ...) of a result for one platform."""
        (found,) = (v for k, v in self.metadata.items() if k.partition("/")[0] == _CONFIG)
        return dict(json.loads(found)["config"])

    @property
    def answer(self) -> Any:
        """What a subrequest was answered, as data."""
        return json.loads(self.metadata["result.json"])

    def text(self) -> str:
        """Give the LLB for people, without digests: what golden files hold."""
        parts = []
        for key, definition in self.definitions.items():
            parts += [f"# {key}"] if key else []
            lines = render(definition).splitlines()
            parts += [line for line in lines if not line.startswith(_LEFT_OUT)]
        return "\n".join(parts) + "\n"

    def ops(self, platform: str | None = None) -> Iterator[tuple[Digest, o.Op]]:
        """Give the ops without terminal ones, inputs before users."""
        for key, definition in self.definitions.items():
            if platform in (None, key):
                yield from ((d, op) for d, op in definition.decoded().items() if op.kind)

    def runs(self) -> list[str]:
        """Give the commands that are run; of shell ones the text alone."""
        metas = (op.kind.meta for _, op in self.ops() if isinstance(op.kind, o.ExecOp))
        return [_command(meta.args) for meta in metas if meta is not None]

    def copies(self) -> list[tuple[str, str]]:
        """Give the pairs of paths that are copied."""
        actions = [
            a.action
            for _, op in self.ops()
            if isinstance(op.kind, o.FileOp)
            for a in op.kind.actions
        ]
        return [(action.src, action.dest) for action in actions if isinstance(action, o.Copy)]

    def writes(self) -> dict[str, bytes]:
        """Give the files that are written by path, the last of each."""
        actions = [
            a.action
            for _, op in self.ops()
            if isinstance(op.kind, o.FileOp)
            for a in op.kind.actions
        ]
        return {action.path: action.data for action in actions if isinstance(action, o.MkFile)}

    def sources(self) -> list[str]:
        """Give what is read: `docker-image://...`, `local://...`, addresses."""
        return [op.kind.identifier for _, op in self.ops() if isinstance(op.kind, o.SourceOp)]

    def assert_runs(self, *patterns: str) -> None:
        """Fail unless commands that match are run, in this order (not necessarily in sequence)."""
        self._assert_in_order("run", self.runs(), patterns)

    def assert_copies(self, src: str, dest: str) -> None:
        """Fail unless that is copied; both are patterns."""
        found = self.copies()
        if not any(fnmatch.fnmatchcase(s, src) and fnmatch.fnmatchcase(d, dest) for s, d in found):
            raise AssertionError(f"nothing copies {src} to {dest}:\n{self.text()}")

    def assert_writes(self, path: str, text: str = "*") -> None:
        """Fail unless a file is written; both are patterns."""
        for name, data in self.writes().items():
            found = data.decode("utf-8", "replace")
            if fnmatch.fnmatchcase(name, path) and fnmatch.fnmatchcase(found, text):
                return
        raise AssertionError(f"nothing writes {text!r} to {path}:\n{self.text()}")

    def assert_reads(self, *patterns: str) -> None:
        """Fail unless sources that match are read."""
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in self.sources()):
                raise AssertionError(f"nothing reads {pattern}:\n{self.text()}")

    def assert_platforms(self, *ids: str) -> None:
        assert self.platforms == list(ids), f"built for {self.platforms}, not for {list(ids)}"

    def assert_places(self) -> None:
        """Fail unless each op says where in a build file it comes from."""
        for definition in self.definitions.values():
            places = {} if definition.source is None else definition.source.locations
            for digest, op in definition.decoded().items():
                told = places.get(digest)
                if op.kind and not (told and any(place.ranges for place in told.locations)):
                    raise AssertionError(f"op {digest} has no place:\n{render(definition)}")

    def lines_of(self, pattern: str) -> list[int]:
        """Give the first lines of the ops whose command or identifier matches."""
        found = []
        for definition in self.definitions.values():
            places = {} if definition.source is None else definition.source.locations
            for digest, op in definition.decoded().items():
                if _matches(op, pattern) and digest in places:
                    ranges = [r for p in places[digest].locations for r in p.ranges]
                    found += [ranges[0].start.line] if ranges else []
        return found

    def _assert_in_order(self, what: str, found: Sequence[str], patterns: Sequence[str]) -> None:
        rest = iter(found)
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(each, pattern) for each in rest):
                raise AssertionError(f"nothing {what}s {pattern}, in this order:\n{self.text()}")


_CONFIG = "containerimage.config"


def _command(args: Sequence[str]) -> str:
    is_shell = len(args) == 3 and args[1] == "-c"
    return args[2] if is_shell else " ".join(args)


def _matches(op: o.Op, pattern: str) -> bool:
    match op.kind:
        case o.SourceOp():
            return fnmatch.fnmatchcase(op.kind.identifier, pattern)
        case o.ExecOp():
            args = op.kind.meta.args if op.kind.meta else ()
            return fnmatch.fnmatchcase(_command(args), pattern)
    return False
