"""Digests of vertices after loading. Number 76 of the solver reference, section 15."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from torana.core.errors import Position
from torana.core.llb import ops as o
from torana.core.llb.codec import encode
from torana.core.llb.definition import (
    Definition,
    Location,
    Locations,
    Range,
    SourceInfo,
    SourceMap,
)
from torana.core.llb.rewrite import load_graph, rewrite
from torana.core.llb.validate import validate
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform

OLD = o.SourceOp(identifier="docker-image://docker.io/library/alpine:3")
NEW = o.SourceOp(identifier="docker-image://docker.io/library/alpine@sha256:" + "a" * 64)
SOURCE = encode(o.Op(kind=OLD))
OTHER = encode(o.Op(kind=o.SourceOp(identifier="local://context")))


def definition(
    network: o.NetMode = o.NetMode.UNSET, platform: Platform | None = None
) -> Definition:
    """A step on an image, then a copy into it from a folder."""
    step = o.ExecOp(
        meta=o.Meta(args=("true",), cwd="/"), mounts=(o.Mount(dest="/"),), network=network
    )
    run = encode(o.Op(inputs=(o.Input(Digest.of(SOURCE)),), kind=step, platform=platform))
    copy = o.FileAction(input=0, secondary_input=1, output=0, action=o.Copy(src="/a", dest="/b"))
    inputs = (o.Input(Digest.of(run)), o.Input(Digest.of(OTHER)))
    copied = encode(o.Op(inputs=inputs, kind=o.FileOp(actions=(copy,))))
    last = encode(o.Op(inputs=(o.Input(Digest.of(copied)),)))
    return Definition((SOURCE, run, OTHER, copied, last))


def digests(of: Definition, **options: Any) -> list[Digest]:
    return list(load_graph(of, **options).graph.ordered)


def test_scenario_76_policy_changes_what_depends_on_a_source() -> None:
    before = definition()
    loaded = load_graph(before, sources={Digest.of(SOURCE): NEW})
    source, run, other, copied = loaded.graph.ordered
    assert source == Digest.of(encode(o.Op(kind=NEW)))
    assert other == Digest.of(OTHER)
    assert {source, run, copied}.isdisjoint(digests(before))
    assert loaded.graph.ordered[run].inputs[0].digest == source
    assert loaded.graph.ordered[copied].inputs[0].digest == run
    assert loaded.graph.result == o.Input(copied)
    assert list(loaded.originals.values()) == digests(before)
    assert run == Digest.of(encode(loaded.graph.ordered[run]))


def test_scenario_76_policy_that_changes_nothing() -> None:
    assert digests(definition(), sources={Digest.of(SOURCE): OLD}) == digests(definition())


def test_scenario_76_platform_that_is_filled_in_is_no_change() -> None:
    before = definition()
    assert digests(before) == [Digest.of(data) for data in before.ops[:-1]]
    assert all(op.platform is None for op in load_graph(before).graph.ordered.values())
    assert digests(before) != digests(
        definition(platform=Platform(os="linux", architecture="amd64"))
    )


@pytest.mark.parametrize(
    ("network", "is_changed"),
    [(o.NetMode.UNSET, True), (o.NetMode.HOST, True), (o.NetMode.NONE, False)],
)
def test_scenario_76_proxy_network(network: o.NetMode, is_changed: bool) -> None:
    before = definition(network)
    plain, proxied = digests(before), digests(before, has_proxy_network=True)
    assert (plain[1] != proxied[1]) is is_changed
    assert (plain[3] != proxied[3]) is is_changed
    assert (plain[0], plain[2]) == (proxied[0], proxied[2])
    if is_changed:
        assert proxied[1] == Digest.of(before.ops[1] + b"\0buildkit.proxy-network.v0")
    ops = load_graph(before, has_proxy_network=True).graph.ordered
    assert ops[proxied[1]] == validate(before).ordered[plain[1]], "the op itself is not touched"


def test_rewritten_definition_is_valid_and_keeps_what_was_said() -> None:
    metadata: dict[str, o.OpMetadata] = {
        d: o.OpMetadata(description={"n": str(i)}) for i, d in enumerate(definition().digests())
    }
    info = SourceInfo("Dockerfile", b"FROM alpine")
    place = Locations((Location(0, (Range(Position(1), Position(1)),)),))
    places = SourceMap({Digest.of(SOURCE): place}, (info,))
    before = replace(definition(), metadata=metadata, source=places)
    after = rewrite(before, {Digest.of(SOURCE): NEW})
    graph = validate(after)
    assert list(graph.ordered) == digests(before, sources={Digest.of(SOURCE): NEW})
    said = [after.metadata[digest].description["n"] for digest in graph.ordered]
    assert said == ["0", "1", "2", "3"]
    assert after.source is not None
    assert after.source.excerpts(next(iter(graph.ordered)))[0].filename == "Dockerfile"
    assert rewrite(before, {}).ops == before.ops


def test_bytes_of_golden_definitions_survive(solves: Any) -> None:
    """What we decode and encode again has the bytes it came with, so that digests stay."""
    for solve in solves:
        whole = Definition(tuple(row.data for row in solve.ops))
        for data, op in zip(whole.ops, whole.decoded().values(), strict=True):
            assert encode(op) == data
