"""Why a step ran or was cached, told from two records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from torana.core import llb
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.render import summary
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.gateway.explain.listing import FileChange, Listing, Listings, compare_listings, short
from torana.gateway.explain.reasons import explain
from torana.gateway.explain.record import (
    KEPT,
    BuildRecord,
    BuildRecords,
    InputRecord,
    Outcome,
    StepRecord,
)

AMD64 = Platform(os="linux", architecture="amd64")


def definition(
    *, tag: str = "1", command: str = "make", env: str = "A=1", source: str = "src"
) -> Definition:
    base = llb.image(f"docker.io/library/x:{tag}")
    context = llb.local("context")
    key, _, value = env.partition("=")
    state = base.file(llb.copy(context, source, "/src")).env(key, value)
    return state.run(["/bin/sh", "-c", command]).root.marshal(platform=AMD64)


def record(
    made: Definition,
    outcomes: str,
    contents: Mapping[str, str] | None = None,
    **members: Any,
) -> BuildRecord:
    """`outcomes` has a letter per step: r ran, c cached, s skipped, f failed."""
    letters = {"r": Outcome.RAN, "c": Outcome.CACHED, "s": Outcome.SKIPPED, "f": Outcome.FAILED}
    steps = {}
    ops = [(digest, op) for digest, op in made.decoded().items() if op.kind is not None]
    data = dict(zip(made.digests(), made.ops, strict=True))
    for (digest, op), letter in zip(ops, outcomes, strict=True):
        kind = type(op.kind).__name__
        steps[digest] = StepRecord(
            digest=digest,
            name=summary(op),
            op=data[digest],
            outcome=letters[letter],
            inputs=tuple(
                InputRecord(each.digest, content=(contents or {}).get(f"{kind}{number}", ""))
                for number, each in enumerate(op.inputs)
            ),
        )
    return BuildRecord(project="p", started=1.0, steps=steps, **members)


def reasons(
    new: BuildRecord, old: BuildRecord | None, listings: Mapping[str, Listing] | None = None
) -> dict[str, list[str]]:
    explained = explain(new, old, (listings or {}).get)
    return {type(o_of(each.step).kind).__name__: list(each.reasons) for each in explained}


def o_of(step: StepRecord) -> o.Op:
    from torana.core.llb.codec import decode

    return decode(o.Op, step.op)


def test_the_first_build() -> None:
    made = reasons(record(definition(), "rrrr"), None)
    assert made["ExecOp"] == ["no earlier build of this folder is remembered"]


def test_nothing_changed() -> None:
    old = record(definition(), "rrrr")
    new = record(definition(), "srsc")
    made = reasons(new, old)
    assert made["ExecOp"] == ["nothing that it is made from has changed"]


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"command": "make all"}, "the command changed: `make` -> `make all`"),
        ({"env": "A=2"}, "environment variable `A` changed: `1` -> `2`"),
        ({"env": "B=1"}, "environment variable `A` is gone; it was `1`"),
    ],
)
def test_what_a_step_does_changed(change: dict[str, str], expected: str) -> None:
    new = record(definition(**change), "ccrr")
    assert expected in reasons(new, record(definition(), "rrrr"))["ExecOp"]


def test_the_base_image_changed() -> None:
    one, two = (f"1@sha256:{c * 64}" for c in "ab")
    new = record(definition(tag=two), "rrrr")
    explained = explain(new, record(definition(tag=one), "rrrr"), lambda _: None)
    by_name = {each.step.name: each.reasons for each in explained}
    image = next(name for name in by_name if name.startswith("docker-image"))
    assert by_name[image] == (
        f"`docker.io/library/x:1` is another image now: sha256:{'a' * 64} -> sha256:{'b' * 64}",
    )
    copy = next(each for each in explained if isinstance(o_of(each.step).kind, o.FileOp))
    assert copy.reasons == (f"it builds on `{image}`, which ran",)


def test_files_changed() -> None:
    old = record(definition(), "rrrr", {"FileOp1": "sha256:01"})
    new = record(definition(), "crrr", {"FileOp1": "sha256:02"})
    listings: dict[str, Listing] = {
        "sha256:01": {"src": b"1", "src/a": b"1", "src/b": b"1", "other": b"1"},
        "sha256:02": {"src": b"2", "src/a": b"2", "src/c": b"1", "other": b"2"},
    }
    made = reasons(new, old, listings)
    assert made["FileOp"] == ["`src/a` changed", "`src/b` is gone", "`src/c` is new"]
    assert made["SourceOp"] == ["folders of the client are looked at in each build"]
    name = next(step.name for step in new.steps.values() if step.name.startswith("copy"))
    assert made["ExecOp"] == [f"it builds on `{name}`, which ran"]
    # Without the listings it says what it can.
    assert reasons(new, old)["FileOp"] == ["the files it uses of `local://context` changed"]


def test_many_files_are_counted() -> None:
    old = record(definition(), "rrrr", {"FileOp1": "sha256:01"})
    new = record(definition(), "crrr", {"FileOp1": "sha256:02"})
    many: dict[str, Listing] = {
        "sha256:01": {},
        "sha256:02": {f"src/{n:03}": b"1" for n in range(30)},
    }
    made = reasons(new, old, many)["FileOp"]
    assert len(made) == 11
    assert made[-1] == "and 20 more files of `local://context`"


def test_the_same_files_from_another_step() -> None:
    old = record(definition(command="a"), "rrrr", {"ExecOp0": "sha256:01"})
    new = record(definition(command="a", source="src/."), "crrc", {"ExecOp0": "sha256:01"})
    name = next(step.name for step in new.steps.values() if step.name.startswith("copy"))
    assert reasons(new, old)["ExecOp"] == [f"the files it uses of `{name}` are the same as before"]
    assert reasons(new, old)["FileOp"] == ["the copy's src changed: `src` -> `src/.`"]


def test_other_causes() -> None:
    old = record(definition(), "rrrr")
    new = record(definition(), "ccrr")
    assert reasons(replace(new, ignores_cache=True), old)["ExecOp"] == [
        "the cache was not to be used"
    ]
    lost = record(definition(), "cccr")
    assert reasons(lost, old)["ExecOp"] == [
        "its result is not in the cache any more, or was made elsewhere"
    ]
    assert reasons(lost, record(definition(), "rrrf"))["ExecOp"] == [
        "the build before did not get it done"
    ]
    fewer = BuildRecord(project="p", started=1.0, steps=dict(list(old.steps.items())[:3]))
    assert reasons(new, fewer)["ExecOp"] == ["there was no such step in the build before"]


def test_records_are_kept_and_dropped(tmp_path: Path) -> None:
    records = BuildRecords(tmp_path)
    assert records.last("p") == []
    made = record(definition(), "rrcs", {"FileOp1": "sha256:01"}, options={"target": "x"})
    for number in range(KEPT + 3):
        records.add(replace(made, started=float(number)))
    records.add(replace(made, project="other"))
    assert [each.started for each in records.last("p")] == [KEPT + 2, KEPT + 1]
    assert records.last("p", 1)[0] == replace(made, started=float(KEPT + 2))
    assert len(list(tmp_path.rglob("*.msgpack"))) == KEPT + 1
    newest = max(tmp_path.rglob("*.msgpack"), key=lambda path: path.name)
    for path in tmp_path.rglob("*.msgpack"):
        path.write_bytes(path.read_bytes()[:50])
    assert records.last("p") == []
    assert newest.exists()


def test_listings_are_written_once(tmp_path: Path) -> None:
    listings = Listings(tmp_path)
    calls: list[int] = []

    def make() -> Listing:
        calls.append(1)
        return {"a": short(Digest.of(b"a"))}

    for _ in range(2):
        listings.add(Digest.of(b"x"), make)
    assert calls == [1]
    assert listings.get(Digest.of(b"x")) == {"a": bytes.fromhex(Digest.of(b"a").encoded[:16])}
    assert listings.get(Digest.of(b"y")) is None
    for number in range(60):
        listings.add(Digest.of_text(str(number)), make)
    assert len(list((tmp_path / "history/listings").iterdir())) == 40


def test_comparing_listings() -> None:
    old = {"d": b"1", "d/a": b"1", "e": b"1", "gone": b"1", "x.c": b"1"}
    new = {"d": b"2", "d/a": b"2", "e": b"2", "new": b"1", "x.c": b"2"}
    changed = {change.path: change.what for change in compare_listings(old, new)}
    assert changed == {
        "d/a": "changed",
        "e": "changed",
        "gone": "removed",
        "new": "added",
        "x.c": "changed",
    }
    assert compare_listings(old, new, ["/*.c"]) == [FileChange("x.c", "changed")]
    assert compare_listings(old, new, ["d/"]) == [FileChange("d/a", "changed")]
    assert compare_listings(old, old) == []
