"""The solver on a real store: nested builds, keys as BuildKit has them, results that are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from torana.core import llb
from torana.core.cache.ref import Tree
from torana.core.llb import ops as o
from torana.core.llb.codec import encode
from torana.core.llb.definition import Definition
from torana.core.loading import load
from torana.core.oci.digest import Digest
from torana.core.ops.build import FILENAME
from torana.core.ops.runtime import Runtime
from torana.core.solver.export import (
    ExportedLink,
    ExportedResult,
    ExportMode,
    ExportOptions,
    export_keys,
)
from torana.core.solver.failure import SolveError
from torana.core.solver.op import Result
from torana.core.solver.progress import VertexEvent
from torana.core.solver.solver import Solver
from torana.core.worker import Worker

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path / "root", snapshotter="native")
    yield worker
    worker.close()


def solver(worker: Worker, context: Path | None = None) -> Solver:
    local = worker.local_source({} if context is None else {"context": context}, "session")
    return worker.solver(find_source=lambda _: local, runtime=cast("Runtime", None))


async def build(worker: Worker, definition: Definition, file: str) -> tuple[str, set[str]]:
    """Give the text of a file of the result, and the names of vertices that really ran."""
    made = solver(worker)
    job = made.new_job("job")
    try:
        result = await job.build(load(definition))
        with cast("Tree", result).mount() as folder:
            text = (folder / file).read_text()
    finally:
        await job.discard()
        await made.close()
    last = {e.name: e async for e in job.events() if isinstance(e, VertexEvent)}
    return text, {name for name, event in last.items() if not event.cached}


def nested(file: bytes, filename: str = o.DEFINITION_INPUT) -> Definition:
    """A build op on a file, then a file op on its result."""
    source = llb.scratch().file(llb.mkfile(f"/{filename}", file)).marshal()
    made = source.ops[:-1]
    attrs = {} if filename == o.DEFINITION_INPUT else {FILENAME: filename}
    kind = o.BuildOp(
        builder=o.LLB_BUILDER, inputs={o.DEFINITION_INPUT: o.BuildInput(0)}, attrs=attrs
    )
    inner = encode(o.Op(inputs=(o.Input(Digest.of(made[-1])),), kind=kind))
    add = o.FileAction(input=0, output=0, action=o.MkFile(path="/outer", data=b"outer"))
    outer = encode(o.Op(inputs=(o.Input(Digest.of(inner)),), kind=o.FileOp(actions=(add,))))
    last = encode(o.Op(inputs=(o.Input(Digest.of(outer)),)))
    return Definition((*made, inner, outer, last))


@pytest.mark.parametrize("filename", [o.DEFINITION_INPUT, "other.llb"])
async def test_build_op_solves_the_definition_in_a_file(worker: Worker, filename: str) -> None:
    inner = llb.scratch().file(llb.mkfile("/inner", b"from within")).marshal()
    text, ran = await build(worker, nested(inner.encode(), filename), "inner")
    assert text == "from within"
    assert ran == {f"mkfile /{filename}", "build", "mkfile /inner", "mkfile /outer"}
    text, ran = await build(worker, nested(inner.encode(), filename), "outer")
    assert text == "outer"
    assert ran == {f"mkfile /{filename}"}, "only its cache key was asked for"


async def test_build_op_with_something_else_in_the_file(worker: Worker) -> None:
    with pytest.raises(SolveError):
        await build(worker, nested(b"\xff\xffno definition"), "inner")
    with pytest.raises(SolveError, match="empty definition"):
        await build(worker, nested(b""), "inner")


class Target:
    def __init__(self) -> None:
        self.records: dict[str, set[tuple[str, str | None]]] = {}

    def add(
        self,
        digest: str,
        inputs: Sequence[Sequence[ExportedLink]],
        results: Sequence[ExportedResult],
    ) -> str:
        links = self.records.setdefault(digest, set())
        links |= {(link.record, link.selector) for each in inputs for link in each}
        return digest


async def test_exported_records_are_those_that_buildkit_exports(
    worker: Worker, tmp_path: Path
) -> None:
    """Measured: `FROM scratch`, `COPY src/a.txt /a.txt`; see the reference, section 6.5."""
    context = tmp_path / "context"
    (context / "src").mkdir(parents=True)
    file = context / "src" / "a.txt"
    file.write_text("hello")
    file.chmod(0o644)
    source = encode(o.Op(kind=o.SourceOp(identifier="local://context")))
    copy = o.Copy(
        src="/src/a.txt",
        dest="/a.txt",
        mode=-1,
        follow_symlink=True,
        dir_copy_contents=True,
        create_dest_path=True,
        allow_wildcard=True,
        allow_empty_wildcard=True,
        timestamp=-1,
    )
    action = o.FileAction(input=-1, secondary_input=0, output=0, action=copy)
    op = encode(o.Op(inputs=(o.Input(Digest.of(source)),), kind=o.FileOp(actions=(action,))))
    last = encode(o.Op(inputs=(o.Input(Digest.of(op)),)))

    async def remotes(result: Result | None, is_at_hand: bool) -> Sequence[Any]:
        return ["layers"]

    made = solver(worker, context)
    job = made.new_job("job")
    target = Target()
    solved = await job.solve(load(Definition((source, op, last))))
    options = ExportOptions(mode=ExportMode.MAX, remotes=remotes, stores=[made.cache])
    await export_keys(solved.keys, target, options)
    await job.discard()
    await made.close()
    content = "sha256:693fd8fbbc7209e12b78a791b6bc69c70553da70a6b47af0621e31290e7a1912"
    copied = "sha256:c211630309aef05eae25922dbfe7e03fb4e5dcff366ee1fee2af17648bac05f8"
    assert target.records == {content: set(), copied: {(content, None)}}
