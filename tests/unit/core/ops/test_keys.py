"""Cache maps of merge, diff, passthrough, build and source ops."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from torana.core.llb.ops import (
    BuildInput,
    BuildOp,
    DiffInput,
    DiffOp,
    MergeInput,
    MergeOp,
    PassthroughOp,
    SourceOp,
)
from torana.core.oci.digest import Digest
from torana.core.ops.build import build_key
from torana.core.ops.diff import diff_key
from torana.core.ops.local import LocalNotOfferedError, LocalSource, local_key, parse_local
from torana.core.ops.merge import merge_key
from torana.core.ops.passthrough import passthrough_key
from torana.core.ops.source import (
    InvalidSourceError,
    SourceRequest,
    SourceServices,
    SourceVertexOp,
    UnknownSchemeError,
    open_source,
    source_digest,
)

UNUSED = cast("SourceServices", None)  # local sources take nothing from it


def test_worked_digests() -> None:
    assert merge_key(MergeOp((MergeInput(0), MergeInput(1)))).encoded == (
        "436287a2dc2ce494f564331be9ea3a9f27ebec398567877043da2f618f33d6c8"
    )
    assert diff_key(DiffOp(DiffInput(0), DiffInput(1))).encoded == (
        "164ae6dac10aea8de6cb7cda35914a10011485523f807ea840bca3e0ab19d8ff"
    )
    assert diff_key(DiffOp(DiffInput(-1), DiffInput(0))).encoded == (
        "f5284a0f1782a8c2cdb29841228c32706cbf04332ad37c3c7cb41659c6eeba0a"
    )
    assert passthrough_key(PassthroughOp(id="x", outputs=(0, 1))).encoded == (
        "f4dd361c0dcfdc207a20fd13c0b7212b34fc452bf67cd0af2bb65ec68f04b321"
    )


def test_the_build_key() -> None:
    op = BuildOp(inputs={"b": BuildInput(1), "a": BuildInput(0)}, attrs={"k": "v"})
    text = (
        '{"Type":"buildkit.build.v0","Exec":'
        '{"builder":-1,"inputs":{"a":{},"b":{"input":1}},"attrs":{"k":"v"}}}'
    )
    assert build_key(op) == Digest.of_text(text)


def test_source_digests() -> None:
    plain = Digest.of_text("buildkit.source.v0:abc")
    assert source_digest("abc") == plain
    session = source_digest("session:context:x")
    assert session == "random:" + Digest.of_text("buildkit.source.v0:session:context:x").encoded


def local(**attrs: str) -> SourceRequest:
    named = {f"local.{name}": value for name, value in attrs.items()}
    return SourceRequest(scheme="local", rest="context", attrs=named)


def test_the_local_key_tells_unset_from_empty() -> None:
    options = parse_local(local(includepattern='["a"]', excludepatterns="[]"))
    body = '{"SessionID":"s","IncludePatterns":["a"],"ExcludePatterns":[],"FollowPaths":null}'
    assert local_key("context", "s", options) == f"session:context:{Digest.of_text(body)}"
    options = parse_local(local(metadatatransfer="true", metadatatransferexclude='["x"]'))
    body = (
        '{"SessionID":"s","IncludePatterns":null,"ExcludePatterns":null,"FollowPaths":null,'
        '"MetadataTransfer":true,"MetadataExceptions":["x"]}'
    )
    assert local_key("context", "s", options) == f"session:context:{Digest.of_text(body)}"


@pytest.mark.parametrize(
    "attrs",
    [
        {"includepattern": "x"},
        {"excludepatterns": "[1]"},
        {"followpaths": '"x"'},
        {"differ": "size"},
        {"metadatatransfer": "maybe"},
    ],
)
def test_malformed_attributes(attrs: dict[str, str]) -> None:
    with pytest.raises(InvalidSourceError):
        parse_local(local(**attrs))


async def test_a_local_source(tmp_path: Path) -> None:
    opened: list[Any] = []

    def open_tree(*arguments: Any) -> Any:
        opened.append(arguments)
        return "tree"

    folders = {"context": tmp_path, "up-context": tmp_path, "file": tmp_path / "none"}
    source = LocalSource(folders, session_id="s", open_tree=open_tree)
    find = {"local": source}.get
    op = SourceOp(
        identifier="local://context",
        attrs={"local.session": "up:other", "local.unique": "1", "strange": "x"},
    )
    vertex = SourceVertexOp(open_source(op, None, find, UNUSED))
    cache_map, is_last = await vertex.cache_map(0)
    assert is_last
    assert cache_map.digest.startswith("random:")
    assert cache_map.inputs == ()
    made: Any = await vertex.exec([])
    assert made == ["tree"]
    assert opened[0][:2] == ("up-context", tmp_path)
    for name in ("other", "file"):
        missing = open_source(SourceOp(identifier=f"local://{name}"), None, find, UNUSED)
        with pytest.raises(LocalNotOfferedError):
            await missing.snapshot()
    with pytest.raises(UnknownSchemeError, match="unknown scheme ftp: not found"):
        open_source(SourceOp(identifier="ftp://x"), None, find, UNUSED)
    with pytest.raises(InvalidSourceError):
        open_source(SourceOp(identifier="context"), None, find, UNUSED)
