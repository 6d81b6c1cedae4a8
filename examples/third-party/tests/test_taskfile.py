"""Tests of the taskfile frontend: no engine, no network, nothing is run."""

from pathlib import Path

import pytest
from torana_taskfile import TaskfileFrontend

from torana.core.errors import ToranaError
from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.frontends.kit.testing.gateway import FakeGateway

TEXT = """\
# syntax=taskfile
from alpine:3.20
version := 1.2

app: prepare tools
    copy app.c /src/{{version}}/
    run cc /src/{{version}}/app.c

tools:
    run apk add cc

prepare: tools
    run echo ready
"""
IMAGES = {"alpine:3.20": {}}
CONTEXTS = {"context": {"app.c": ""}}


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(images=IMAGES, contexts=CONTEXTS)


def test_needs_come_first_and_once(gateway: FakeGateway) -> None:
    built = gateway.build(TaskfileFrontend(), TEXT, target="app")
    assert built.runs() == ["apk add cc", "echo ready", "cc /src/1.2/app.c"]
    built.assert_copies("/app.c", "/src/1.2/")
    assert built.lines_of("apk *") == [10]


def test_last_recipe_is_the_default(gateway: FakeGateway) -> None:
    built = gateway.build(TaskfileFrontend(), TEXT)
    assert built.runs() == ["apk add cc", "echo ready"]
    assert [w.short for w in built.warnings] == ["UnusedVariable: `version` is not used (line 3)"]


def test_variables_can_be_given(gateway: FakeGateway) -> None:
    built = gateway.build(TaskfileFrontend(), TEXT, target="app", vars="version=2")
    built.assert_runs("cc /src/2/app.c")


def test_cycle(gateway: FakeGateway) -> None:
    with pytest.raises(ToranaError, match="recipes need each other: b -> a -> b"):
        gateway.build(TaskfileFrontend(), "a: b\n    run x\nb: a\n    run y\n")


class TestConformance(FrontendSuite):
    """What every frontend should do."""

    frontend = TaskfileFrontend()
    images = IMAGES
    contexts = CONTEXTS
    documents = (Path(__file__).parents[1] / "README.md",)
    valid = (TEXT,)
    invalid = (
        "a: b  ### no such recipe: `b`\n    run x\n",
        "a:\n    rnu x  ### expected `copy` or `run`, found `rnu`\n",
        "a:\n    run {{no}}  ### no such variable: `no`\n",
    )


def test_no_cache_names_recipes(gateway: FakeGateway) -> None:
    text = "a:\n    run one\nb: a\n    run two\n"
    built = gateway.build(TaskfileFrontend(), text, no_cache="a")
    ignored = [built.definition.metadata[digest].ignore_cache for digest, _ in built.ops()]
    assert ignored == [True, False]
