"""`YamlNode`: YAML for authors; what is read, and what is said of mistakes."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from torana.core.errors import BuildFileError
from torana.frontends.kit import Image, LowerContext, Place, TextFrontend, YamlNode
from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.frontends.kit.testing.gateway import FakeGateway


class ListFrontend(TextFrontend[YamlNode]):
    """Steps in a base image, as in docs/design/kit.md."""

    name = "list"
    filename = "list.yaml"

    def parse(self, text: str, whole: Place) -> YamlNode:
        return YamlNode.parse(whole)

    async def lower(self, tree: YamlNode, context: LowerContext) -> Image:
        top = tree.fields(("from", "steps", "env"), "the file")
        if "from" not in top:
            tree.refuse("there is no `from`", hint="`from: IMAGE`")
        with top["from"].place.located():
            image = await context.image(top["from"].text("from"))
        for name, value in top["env"].fields(None, "env").items() if "env" in top else ():
            image = image.env(name, str(value.value))
        for step in top["steps"].items("steps") if "steps" in top else ():
            with step.place.located():
                image = image.run(step.text("a step"))
        return image


TEXT = "from: debian:12\nsteps:\n  - make 3.10\n  - 'make test'\n"


class TestList(FrontendSuite):
    frontend = ListFrontend()
    images = {"debian:12": {}}  # noqa: RUF012  # a class of the suite
    valid = (TEXT, "from: debian:12\nsteps:\n")
    invalid = (
        "from: debian:12\nstep: []  ### unknown key in the file: `step`\n",
        "from: debian:12\nfrom: debian:12  ### key twice in one mapping: `from`\n",
        "from: debian:11  ### not found\n",
        "from: debian:12\nsteps: [a, [b]]  ### a step is not a text\n",
        "from: debian:12\nsteps: {a: b}  ### steps is not a list\n",
        "from: debian:12\nsteps: [a\nb: c  ### not YAML\n",
        "from: !x debian:12  ### tags have no meaning here\n",
        "- a  ### the file is not a mapping\n",
        "steps: []  ### there is no `from`\n",
    )


def test_values() -> None:
    text = "from: debian:12\nenv: {A: 1, B: '1', C: 3.10, D: yes, E: true, F: ~, G: []}\n"
    built = FakeGateway(images={"debian:12": {}}).build(ListFrontend(), text)
    assert built.config is not None
    env = built.config["Env"][-7:]
    assert env == ["A=1", "B=1", "C=3.10", "D=yes", "E=True", "F=None", "G=None"]


def test_ops_have_their_lines() -> None:
    built = FakeGateway(images={"debian:12": {}}).build(ListFrontend(), TEXT)
    assert (built.lines_of("*debian*"), built.lines_of("make test")) == ([1], [4])


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (None, "`lower` gave nothing: it returns an `Image` or a `State`"),
        ("image", "`lower` gave a `str`: it returns an `Image` or a `State`"),
    ],
)
def test_what_lower_must_give(made: object, told: str) -> None:
    class Forgetful(ListFrontend):
        async def lower(self, tree: YamlNode, context: LowerContext) -> Image:
            return cast(Image, made)

    with pytest.raises(TypeError, match=f"^{re.escape(told)}$"):
        FakeGateway().build(Forgetful(), "from: scratch\n")


def test_a_missing_await_is_told() -> None:
    made: list[Coroutine[Any, Any, Image]] = []

    class Hasty(ListFrontend):
        async def lower(self, tree: YamlNode, context: LowerContext) -> Image:
            made.append(context.image("debian:12"))
            return cast(Image, made[0])

    with pytest.raises(TypeError, match="is there an `await` missing"):
        FakeGateway().build(Hasty(), "from: scratch\n")
    made[0].close()


class Nesting(ListFrontend):
    """Each step is a Dockerfile, or an address and its checksum."""

    async def lower(self, tree: YamlNode, context: LowerContext) -> Image:
        image = context.scratch()
        for step in tree.fields(("steps",), "the file")["steps"].items("steps"):
            with step.place.located():
                url, _, checksum = (text := step.text("a step")).partition(" sum ")
                if checksum:
                    image = image.copy(
                        context.download(url, filename="f", sha256=checksum), "f", "/"
                    )
                else:
                    image = await context.frontend("dockerfile", text=text, inputs={"base": image})
        return image


def test_a_step_stands_behind_what_it_nests() -> None:
    text = "steps:\n- FROM base\n- FORM base\n- FROM base\n"
    with pytest.raises(BuildFileError) as caught:
        FakeGateway().build(Nesting(), text)
    places = [(each.filename, each.ranges[0].start.line) for each in caught.value.sources]
    assert places == [("nested", 1), ("list.yaml", 3)]


def test_checksums_of_downloads_may_say_that_they_are_sha256() -> None:
    gateway = FakeGateway(urls={"https://x.org/f": ""})
    for prefix in ("", "sha256:"):
        text = f"steps: [https://x.org/f sum {prefix}{'7' * 64}]\n"
        assert f"http.checksum=sha256:{'7' * 64}" in gateway.build(Nesting(), text).text()


@pytest.mark.parametrize("text", ["", "# nothing\n", "--- a\n--- b\n", "a: " + "[" * 100])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(BuildFileError) as caught:
        FakeGateway().build(ListFrontend(), text)
    assert caught.value.sources
