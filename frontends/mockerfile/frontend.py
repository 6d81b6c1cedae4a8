"""`MockerfileFrontend`: images as a base, packages and downloads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from torana.frontends.kit import Image, LowerContext, Place, Target, TextFrontend
from torana.frontends.mockerfile.lower import Lowering
from torana.frontends.mockerfile.model import Mockerfile
from torana.frontends.mockerfile.rules import BY_NAME, RULES

if TYPE_CHECKING:
    from torana.frontends.kit.grammar import Grammar

_YAML: Final = re.compile(r"(?:\s*(?:#[^\n]*)?\n)*\s*(?:---|[{\[]|[\"']?\w+[\"']?\s*:)")
_WORDS: Final = {
    "NAME": "a name",
    "WORD": "a word",
    "URL": "an address (`https://...`)",
    "PATH": "an absolute path",
    "SHA256": "`sha256:` with 64 hex digits",
    "REST": "a text",
    "VALUE": "a value",
}


class MockerfileFrontend(TextFrontend[Mockerfile]):
    """Reads the YAML documents of `r2d4/mocker`, and the same in a form of our own.

    Spec: Mockerfile reference.
    """

    name = "mockerfile"
    filename = "Mockerfile.yaml"
    language = "Mockerfile"
    rules = RULES

    def parse(self, text: str, whole: Place) -> Mockerfile:
        file = _read(text, whole)
        seen: set[str] = set()
        for image in file.images:
            if image.name in seen:
                raise image.place.error(f"there are two images `{image.name}`")
            seen.add(image.name)
        return file

    def targets(self, tree: Mockerfile) -> Sequence[Target]:
        first = tree.images[0]
        return [
            Target(
                name=image.name,
                place=image.place,
                is_default=tree.is_original and image is first,
            )
            for image in tree.images
        ]

    async def lower(self, tree: Mockerfile, context: LowerContext) -> Image:
        assert context.target is not None
        image = tree.find(context.target.name)
        assert image is not None
        for remark in tree.remarks:
            context.warn(BY_NAME[remark.rule], remark.message, remark.place)
        return await Lowering(tree, context).image(image)


def _read(text: str, whole: Place) -> Mockerfile:
    if _YAML.match(text):
        from torana.frontends.mockerfile.document import read_document

        return read_document(whole)
    from torana.frontends.mockerfile.statements import read_statements

    return read_statements(_grammar().parse(text, whole))


@cache
def _grammar() -> Grammar:
    from torana.frontends.kit.grammar import Grammar

    text = files("torana.frontends.mockerfile").joinpath("mockerfile.lark").read_text("utf-8")
    return Grammar(text, _WORDS)
