"""A frontend that builds with another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torana.core.errors import BuildFileError, UnsupportedError
from torana.frontends.kit import GrammarFrontend, Image, LowerContext, Tree
from torana.frontends.kit.lock import LockError
from torana.frontends.kit.offline import OfflineClient
from torana.frontends.kit.testing.gateway import FakeGateway

IMAGES = {"alpine:3.20": {"Env": ["PATH=/bin"], "WorkingDir": "/srv"}}


class Nesting(GrammarFrontend):
    """Each line is a command in what a Dockerfile or another frontend makes."""

    name = "nesting"
    filename = "Nestfile"
    grammar = "mini.lark"

    def __init__(self, inner: str, text: str | None) -> None:
        self.inner = inner
        self.text = text

    async def lower(self, tree: Tree, context: LowerContext) -> Image:
        base = (await context.image("alpine:3.20")).run("prepare")
        image = await context.frontend(self.inner, text=self.text, inputs={"base": base})
        for statement in tree:
            image = image.run(statement["REST"].text)
        return image


class NestingForEach(Nesting):
    """Each line is another file of another language."""

    async def lower(self, tree: Tree, context: LowerContext) -> Image:
        image = context.scratch()
        for _ in tree:
            image = await context.frontend(self.inner, text=self.text, inputs={"base": image})
        return image


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(images=IMAGES, contexts={"context": {"app.c": ""}})


def test_goes_on_with_what_a_dockerfile_makes(gateway: FakeGateway) -> None:
    text = "FROM base\nENV A=b\nRUN inside\nCOPY app.c /src/\n"
    built = gateway.build(Nesting("dockerfile", text), "run after\n")
    for command in ("prepare", "inside", "after"):
        built.assert_runs(command)
    built.assert_copies("/app.c", "/src/")
    built.assert_reads("docker-image://docker.io/library/alpine:3.20@sha256:*", "local://context")
    assert built.config is not None
    assert built.config["Env"] == ["PATH=/bin", "A=b"]
    assert built.config["WorkingDir"] == "/srv"


def test_errors_are_those_of_the_nested_file_and_say_who_nested_it(gateway: FakeGateway) -> None:
    with pytest.raises(BuildFileError, match="unknown instruction: FORM") as caught:
        gateway.build(NestingForEach("dockerfile", "FORM base\n"), "run one\nrun two\n")
    places = [(each.filename, each.ranges[0].start.line) for each in caught.value.sources]
    assert places == [("nested", 1), ("Nestfile", 1)]
    with pytest.raises(UnsupportedError) as unknown:
        gateway.build(NestingForEach("theirs", "x\n"), "run one\nrun two\n")
    assert [each.filename for each in unknown.value.sources] == ["Nestfile"]


def test_what_is_not_pinned_is_refused_in_nested_files_too(gateway: FakeGateway) -> None:
    lock = '{"version": 1, "images": {"docker.io/library/alpine:3.20": "sha256:%s"}}' % ("7" * 64)
    pinned = f"alpine:3.20@sha256:{'7' * 64}"
    gateway.contexts = {**gateway.contexts, "dockerfile": {"Nestfile.lock": lock}}
    gateway.images = {pinned: {}, "debian:12": {}}
    for text in ("FROM base\nRUN inside\n", f"FROM {pinned}\nRUN inside\n"):
        built = gateway.build(Nesting("dockerfile", text), "run after\n", locked="true")
        built.assert_runs("inside")
    loose = Nesting("dockerfile", "FROM debian:12\nRUN inside\n")
    gateway.build(loose, "run after\n")
    with pytest.raises(LockError, match=r"not pinned: `docker\.io/library/debian:12`") as caught:
        gateway.build(loose, "run after\n", locked="true")
    assert caught.value.sources[0].ranges[0].start.line == 1
    with pytest.raises(UnsupportedError):
        gateway.build(Nesting("theirs", "x\n"), "run after\n", locked="true")
    assert gateway.solved[-1].frontend_opt["locked"] == "true"


def test_frontends_of_others_are_left_to_the_engine(gateway: FakeGateway) -> None:
    with pytest.raises(UnsupportedError, match="no frontend in this test: `theirs`"):
        gateway.build(Nesting("theirs", "x\n"), "run after\n")
    request = gateway.solved[-1]
    assert request.frontend_opt["cmdline"] == "theirs"
    assert {"base", "dockerfile"} <= set(request.frontend_inputs)


@pytest.mark.parametrize("text", ["FROM base\nRUN inside\n", None])
async def test_files_are_checked_without_an_engine(tmp_path: Path, text: str | None) -> None:
    (tmp_path / "Nestfile").write_text("run after\n")
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    options = {"filename": "Nestfile", "requestid": "frontend.lint"}
    client = OfflineClient(folders={"context": tmp_path, "dockerfile": tmp_path}, options=options)
    result = await Nesting("dockerfile", text).build(client)
    answer = json.loads(result.metadata["result.json"])
    assert (answer["warnings"], answer.get("buildError")) == (None, None)
    wrong = await Nesting("dockerfile", "FORM base\n").build(client)
    answer = json.loads(wrong.metadata["result.json"])
    assert "unknown instruction: FORM" in answer["buildError"]["message"]
