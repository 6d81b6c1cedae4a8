"""The whole frontend where golden cases do not look: long files, limits of engines, late errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.llb.stub_client import StubClient, StubImages
from tests.golden.llb.wire import decode_op

from torana.core.errors import BuildFileError, ToranaError, UnsupportedError, UserError
from torana.frontends.dockerfile import DockerfileFrontend

IMAGE: dict[str, Any] = {
    "ref": "docker.io/library/alpine:latest",
    "digest": "sha256:" + "1" * 64,
    "fixed_platform": False,
    "config": {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "2" * 64]},
    },
}


def _client(folder: Path, text: str, **options: str) -> StubClient:
    (folder / "context").mkdir(exist_ok=True)
    (folder / "context" / "Dockerfile").write_text(text)
    given = {name.replace("__", ":"): value for name, value in options.items()}
    return StubClient(folder=folder, images=StubImages({IMAGE["ref"]: IMAGE}), options=given)


def _ops(client: StubClient) -> list[dict[str, Any]]:
    definition = client.solves[-1].definition
    assert definition is not None
    return [decode_op(raw) for raw in definition.ops]


async def test_stages_may_be_chained_without_limit(tmp_path: Path) -> None:
    stages = ["FROM alpine AS s0"]
    stages += [f"FROM s{n} AS s{n + 1}\nRUN {n}" for n in range(1500)]
    client = _client(tmp_path, "\n".join(stages))
    await DockerfileFrontend().build(client)
    assert len(_ops(client)) == 1502


async def test_copies_between_many_stages_visit_each_once(tmp_path: Path) -> None:
    stages = ["FROM scratch AS s0\nCOPY a /"]
    for n in range(1, 60):  # every stage reads the two before it: 2^60 paths
        stages.append(f"FROM scratch AS s{n}\nCOPY --from=s{max(n - 2, 0)} / /x")
        stages.append(f"COPY --from=s{n - 1} / /y")
    client = _client(tmp_path, "\n".join(stages))
    await DockerfileFrontend().build(client)
    assert len(client.solves) == 3


async def test_engine_without_image_source_is_told_at_the_from_line(tmp_path: Path) -> None:
    class NoImages(StubClient):
        async def resolve_image(self, ref: str, **_: Any) -> Any:
            raise UnsupportedError("no image source")

    stub = _client(tmp_path, "ARG X\nFROM alpine\nRUN x\n")
    client = NoImages(folder=stub.folder, images=stub.images, options={})
    with pytest.raises(UnsupportedError) as caught:
        await DockerfileFrontend().build(client)
    assert [span.start.line for span in caught.value.sources[0].ranges] == [2]


async def test_scratch_needs_no_image_source(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM scratch\nCOPY a /a\n")
    await DockerfileFrontend().build(client)
    assert not client.resolves


async def test_unreachable_stages_resolve_nothing(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM nosuch AS a\nRUN ${}\nFROM scratch\nCOPY a /\n")
    await DockerfileFrontend().build(client)
    assert not client.resolves


async def test_warnings_come_before_an_error(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM scratch as a\nENV A=${}\n")
    with pytest.raises(BuildFileError):
        await DockerfileFrontend().build(client)
    assert [warning.short.partition(":")[0] for warning in client.warnings] == ["FromAsCasing"]


async def test_run_without_arguments_fails_late(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM alpine\nRUN []\n")
    with pytest.raises(ToranaError) as caught:
        await DockerfileFrontend().build(client)
    assert caught.value.message == "failed to marshal LLB definition: arguments are required"
    assert not caught.value.sources


async def test_target_is_found_in_any_case_and_labelled(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM scratch AS One\nFROM scratch\n", target="ONE", label__k="v")
    result = await DockerfileFrontend().build(client)
    assert b'"Labels":{"k":"v"}' in result.metadata["containerimage.config"]


async def test_unknown_target_gets_a_suggestion(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM scratch AS builder\n", target="buildr")
    with pytest.raises(ToranaError, match=r"could not be found \(did you mean builder\?\)"):
        await DockerfileFrontend().build(client)


class NoGateway(StubClient):
    """A client that cannot hand a build to another frontend."""

    async def solve(self, request: Any) -> Any:
        if request.frontend:
            raise UnsupportedError("no gateway")
        return await StubClient.solve(self, request)


async def test_forwarding_failure_shows_the_syntax_line(tmp_path: Path) -> None:
    """DF-096: the line that named the frontend, or the argument that did."""
    stub = _client(tmp_path, "# syntax=foo\nFROM scratch\n")
    client = NoGateway(folder=stub.folder, images=stub.images, options={})
    with pytest.raises(UnsupportedError) as caught:
        await DockerfileFrontend().build(client)
    assert [span.start.line for span in caught.value.sources[0].ranges] == [1]
    options = {"build-arg:BUILDKIT_SYNTAX": "bar x"}
    client = NoGateway(folder=stub.folder, images=stub.images, options=options)
    with pytest.raises(UnsupportedError) as caught:
        await DockerfileFrontend().build(client)
    assert caught.value.message == "failed with build-arg:BUILDKIT_SYNTAX = bar x: no gateway"


async def test_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    text = "FROM alpine\nCOPY --link a /\nRUN --mount=type=cache,target=/c x\n"
    definitions = []
    for _ in range(2):
        client = _client(tmp_path, text)
        await DockerfileFrontend().build(client)
        definition = client.solves[-1].definition
        assert definition is not None
        definitions.append(definition.ops)
    assert definitions[0] == definitions[1]


async def test_convertllb_gives_ops_by_digest(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM alpine\nRUN x\n", requestid="frontend.convertllb")
    result = await DockerfileFrontend().build(client)
    document = json.loads(result.metadata["result.json"])
    assert set(result.metadata) == {"result.json", "version"}
    assert len(document["def"]) == 3
    assert set(document["def"]) == set(document["metadata"])


async def test_unknown_subrequest_is_refused(tmp_path: Path) -> None:
    client = _client(tmp_path, "FROM scratch\n", requestid="frontend.nonsense")
    with pytest.raises(UnsupportedError, match=r"unsupported request frontend\.nonsense"):
        await DockerfileFrontend().build(client)


async def test_unknown_frontend_capability_is_refused_at_once(tmp_path: Path) -> None:
    client = StubClient(folder=tmp_path, images=StubImages({}), options={"frontend.caps": "moby.x"})
    with pytest.raises(UnsupportedError, match=r"unsupported frontend capability moby\.x"):
        await DockerfileFrontend().build(client)
    assert not client.solves


async def test_images_are_pinned_in_the_file_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not pinned: `docker\.io/library/alpine") as caught:
        await DockerfileFrontend().build(_client(tmp_path, "FROM alpine\n", locked="true"))
    assert "by digest: `FROM name@sha256:...`" in (caught.value.hint or "")
    with pytest.raises(UserError, match=r"not pinned: `docker\.io/library/busybox"):
        text = "FROM scratch\nCOPY --from=busybox /bin /bin\n"
        await DockerfileFrontend().build(_client(tmp_path, text, locked="true"))
    await DockerfileFrontend().build(_client(tmp_path, "FROM alpine\n", locked="false"))
    await DockerfileFrontend().build(_client(tmp_path, "FROM scratch\n", locked="true"))
