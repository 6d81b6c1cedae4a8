"""The suite of the kit on our own languages."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from hypothesis import given, settings

from torana.core.errors import BuildFileError, ToranaError
from torana.core.llb.ops import SourceOp
from torana.core.llb.state import mkfile, scratch
from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.kit.testing.built import Built
from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.frontends.kit.testing.failures import assert_fails
from torana.frontends.kit.testing.gateway import FakeGateway, FakeReference
from torana.frontends.kit.testing.golden import Golden
from torana.frontends.kit.testing.runtimes import Runtimes
from torana.frontends.kit.testing.strategies import contexts
from torana.frontends.mockerfile import MockerfileFrontend
from torana.frontends.yaml import YamlFrontend
from torana.gateway.client.client import Result


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kittests_{name}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MINI = _load("minifrontend").MiniFrontend()


class TestMini(FrontendSuite):
    frontend = MINI
    images: ClassVar = {"alpine:3.20": {}}
    contexts: ClassVar = {"context": {"a": ""}}
    valid = ("from alpine:3.20\ncopy a /a\nrun ls -l\nshow jobs\n",)
    invalid = (
        "run x\nrnu y ### expected `copy`, `from`, `include`\n",
        "from debian ### docker.io/library/debian:latest: not found\n",
    )


class TestMockerfile(FrontendSuite):
    builtins = ("mockerfile",)
    frontend = MockerfileFrontend()
    images: ClassVar = {"debian:12": {}}
    contexts: ClassVar = {"context": {"a": ""}}
    valid = (
        "image a\nfrom debian:12\npackages gcc\nfile https://x.org/f /f\ncopy a /a\n",
        "images:\n- from: debian:12\n  package: {install: [gcc], repo: [deb x y]}\n",
    )
    invalid = (
        "image a\nfrom debian:12\nfiel https://x.org/f /f  ### found `fiel`\n",
        "images:\n- from: debian:12\n  packages: {}  ### unknown key in an image: `packages`\n",
    )


def assert_steps_have_places(built: Built) -> None:
    """See that what is run or copied has a place.

    Sources of several steps, such as the context, have none: as in BuildKit, whose very ops they
    are.
    """
    for definition in built.definitions.values():
        assert definition.source is not None
        for digest, op in definition.decoded().items():
            if op.kind and not isinstance(op.kind, SourceOp):
                assert definition.source.locations[digest].locations[0].ranges


class TestDockerfile(FrontendSuite):
    builtins = ("dockerfile",)
    frontend = DockerfileFrontend()
    images: ClassVar = {"debian:12": {}}
    contexts: ClassVar = {"context": {"a": ""}}
    urls: ClassVar = {"https://x.org/f": "f"}
    valid = (
        "FROM debian:12 AS base\nARG LEVEL=1\nRUN make -j$LEVEL\n"
        'FROM scratch\nCOPY --from=base /out /out\nADD a https://x.org/f /\nCMD ["/out"]\n',
    )
    invalid = (
        "FROM debian:12\nRNU make  ### unknown instruction: RNU\n",
        "FROM debian:12\nCOPY a  ### requires at least two arguments\n",
        "FROM debian:11  ### docker.io/library/debian:11: not found\n",
    )

    def test_each_op_has_a_place(self) -> None:
        for text in self.valid:
            assert_steps_have_places(self.build(text))

    def test_questions_are_answered(self) -> None:
        """Linting is a question that BuildKit's frontend answers, but does not list."""
        described = self.build(self.valid[0], requestid="frontend.subrequests.describe").answer
        names = {entry["name"] for entry in described} | {"frontend.lint"}
        assert {"frontend.outline", "frontend.targets"} < names
        for name in sorted(names - {"frontend.subrequests.describe"}):
            assert self.build(self.valid[0], requestid=name).answer is not None
        with pytest.raises(ToranaError):
            self.build(self.valid[0], requestid="frontend.nonsense")


class TestYaml(FrontendSuite):
    builtins = ("yaml",)
    frontend = YamlFrontend()
    images: ClassVar = {"debian:12": {}}
    contexts: ClassVar = {"context": {"a": ""}}
    valid = (
        "version: 1\nargs:\n  LEVEL: {default: 1}\nstages:\n  base:\n    from: debian:12\n"
        "    steps:\n      - run: make -j${{ args.LEVEL }}\n      - copy: a\n        to: /a\n"
        "  app:\n    from: base\n    steps: [ls]\n    image: {cmd: [/a]}\ndefault: app\n",
    )
    invalid = (
        "version: 1\nstages:\n  app:\n    from: x\n    stesp: []  ### unknown key: `stesp`\n",
        "version: 1\nstages:\n  app:\n    from: debian:11  ### not found\n",
    )

    def test_each_op_has_a_place(self) -> None:
        for text in self.valid:
            assert_steps_have_places(self.build(text))


def test_golden_files_are_written_and_compared(tmp_path: Path) -> None:
    gateway = FakeGateway()
    with pytest.raises(AssertionError, match="no golden file"):
        Golden(tmp_path).check("one", gateway.build(MINI, "run ls\n"))
    Golden(tmp_path, is_updating=True).check("one", gateway.build(MINI, "run ls\n"))
    Golden(tmp_path).check("one", gateway.build(MINI, "run ls\n"))
    with pytest.raises(AssertionError, match="update-golden"):
        Golden(tmp_path).check("one", gateway.build(MINI, "run ps\n"))


def test_assertions_can_fail() -> None:
    gateway = FakeGateway(contexts={"context": {"a": ""}})
    built = gateway.build(MINI, "copy a /b\nrun one\nrun two\n")
    with pytest.raises(AssertionError, match="nothing copies"):
        built.assert_copies("/a", "/c")
    with pytest.raises(AssertionError, match="nothing runs one, in this order"):
        built.assert_runs("two", "one")
    with pytest.raises(AssertionError, match="nothing writes 'x' to /b"):
        built.assert_writes("/b", "x")
    with pytest.raises(AssertionError, match="nothing reads"):
        built.assert_reads("https://*")
    with pytest.raises(AssertionError, match="builds, but should fail"):
        assert_fails(gateway, MINI, "run x ### no\n")
    with pytest.raises(AssertionError, match="not 2"):
        assert_fails(gateway, MINI, "rnu x\nrun y ### found `rnu`\n")
    assert isinstance(assert_fails(gateway, MINI, "rnu x ### found `rnu`\n"), BuildFileError)


def test_the_text_that_crashes_a_frontend_is_told() -> None:
    class Fragile(TestMini):
        def build(self, text: str, **opts: str) -> Built:
            if len(text) < 5:
                raise KeyError(text)
            return super().build(text, **opts)

    with pytest.raises(AssertionError, match=r"^crashes on '': KeyError\(''\)"):
        Fragile().test_no_text_crashes()


def test_printing_is_found(capfd: pytest.CaptureFixture[str]) -> None:
    class Loud(TestMini):
        def build(self, text: str, **opts: str) -> Built:
            print("stray")
            return super().build(text, **opts)

    with pytest.raises(AssertionError, match=r"printed to standard output.*'stray"):
        Loud().test_prints_nothing(capfd)


def test_runtimes_agree() -> None:
    gateway = FakeGateway(images={"debian:12": {}}, contexts={"context": {"a": ""}})
    text = "# syntax=mockerfile\nimage a\nfrom debian:12\ncopy a /a\nrun ls\n"
    Runtimes().build(gateway, "mockerfile", text).assert_runs("ls")


@settings(max_examples=25, deadline=None)
@given(contexts())
def test_contexts_of_hypothesis_are_folders(files: dict[str, bytes]) -> None:
    paths = set(files)
    for path in paths:
        assert not path.startswith("/") and ".." not in path.split("/")
        parents = {"/".join(path.split("/")[:n]) for n in range(1, path.count("/") + 1)}
        assert not parents & paths


def test_arguments_and_written_files() -> None:
    gateway = FakeGateway(build_args={"JOBS": "7"})
    built = gateway.build(MINI, "show jobs\n")
    assert built.config["Env"][-1] == "jobs=7"
    page = gateway.build(
        MockerfileFrontend(), "image a\nfrom scratch\nworkdir /x\n", filename="Mockerfile"
    )
    assert page.writes() == {}
    writing = asyncio.run(Built.of(_written()))
    writing.assert_writes("/srv/*.txt", "hel*")


def _written() -> Result:
    state = scratch().file(mkfile("/srv/a.txt", b"hello"))
    return Result(ref=FakeReference(FakeGateway(), state.marshal()))
