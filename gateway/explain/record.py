"""`BuildRecord`: what each step of a build was and how it ended, kept to be compared later.

One file per build, `<root>/history/steps/<project>/<time>-<id>.msgpack`, the last few of a project.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Any, Final

from torana.core.database import pack, unpack
from torana.core.llb.codec import decode
from torana.core.llb.definition import Definition
from torana.core.llb.ops import Op, OpMetadata, SourceOp
from torana.core.oci.digest import Digest
from torana.core.records import dataclass

KEPT: Final = 6
"""Builds remembered of one project."""


class Outcome(Enum):
    """How a step ended."""

    RAN = "ran"
    CACHED = "cached"
    SKIPPED = "skipped"  # nobody had to look at it: what uses it was cached
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One input of a step; `content` is the digest of the files looked at, if any were."""

    step: Digest
    selector: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step. `op` has the bytes of the LLB op, `key` the digest of its own part of the key."""

    digest: Digest
    name: str
    op: bytes
    outcome: Outcome
    key: str = ""
    inputs: tuple[InputRecord, ...] = ()
    seconds: float = 0.0
    error: str = ""

    def decoded(self) -> Op:
        """Read the op."""
        return decode(Op, self.op)

    @property
    def is_local(self) -> bool:
        """Whether it reads a folder of the client."""
        kind = self.decoded().kind
        return isinstance(kind, SourceOp) and kind.identifier.startswith("local://")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """All steps of a build, inputs before their users. `options` are the frontend's."""

    project: str
    started: float  # seconds since the epoch
    steps: Mapping[Digest, StepRecord]
    options: Mapping[str, str] = field(default_factory=dict)
    ignores_cache: bool = False

    def definition(self) -> Definition:
        """Give the steps as one definition, with their names, for pairing."""
        named: dict[str, OpMetadata] = {
            digest: OpMetadata(description={"llb.customname": step.name})
            for digest, step in self.steps.items()
        }
        return Definition(ops=tuple(step.op for step in self.steps.values()), metadata=named)


class BuildRecords:
    """The records of one store. Calls block briefly."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "history" / "steps"

    def add(self, record: BuildRecord) -> None:
        """Keep a record, whole or not at all, and drop the oldest of its project."""
        folder = self._of(record.project)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020}-{secrets.token_hex(4)}"
        temporary = folder / f".{name}"
        try:
            temporary.write_bytes(pack(_to_value(record)))
            os.rename(temporary, folder / f"{name}.msgpack")
        finally:
            temporary.unlink(missing_ok=True)
        for old in self._files(folder)[:-KEPT]:
            old.unlink(missing_ok=True)

    def last(self, project: str, count: int = 2) -> list[BuildRecord]:
        """Give the last records of a project that can be read, the newest first."""
        found: list[BuildRecord] = []
        for path in reversed(self._files(self._of(project))):
            try:
                value = unpack(path.read_bytes())
                record = None if value is None else _from_value(value)
            except (OSError, ValueError, TypeError, KeyError):
                continue
            if record is not None:
                found.append(record)
            if len(found) == count:
                break
        return found

    def _of(self, project: str) -> Path:
        return self._folder / Digest.of_text(project).encoded[:32]

    @staticmethod
    def _files(folder: Path) -> Sequence[Path]:
        return sorted(folder.glob("*.msgpack"))


def _to_value(record: BuildRecord) -> dict[str, Any]:
    steps = [
        [
            step.digest,
            step.name,
            step.op,
            step.outcome.value,
            step.key,
            [[each.step, each.selector, each.content] for each in step.inputs],
            step.seconds,
            step.error,
        ]
        for step in record.steps.values()
    ]
    return {
        "project": record.project,
        "started": record.started,
        "options": dict(record.options),
        "ignores_cache": record.ignores_cache,
        "steps": steps,
    }


def _from_value(value: dict[str, Any]) -> BuildRecord:
    steps = {}
    for digest, name, op, outcome, key, inputs, seconds, error in value["steps"]:
        steps[Digest(digest)] = StepRecord(
            digest=Digest(digest),
            name=name,
            op=op,
            outcome=Outcome(outcome),
            key=key,
            inputs=tuple(InputRecord(Digest(s), selector, c) for s, selector, c in inputs),
            seconds=seconds,
            error=error,
        )
    return BuildRecord(
        project=value["project"],
        started=value["started"],
        steps=steps,
        options=value["options"],
        ignores_cache=value["ignores_cache"],
    )
