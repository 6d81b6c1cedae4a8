"""A small language for the tests of the kit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from torana.frontends.kit import GrammarFrontend, Image, LowerContext, Rule, Tree, option

SHOUTING = Rule("Shouting", "Commands should be in lower case")


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class Options:
    """What a user may set."""

    jobs: int = option(4, help="how many at once", minimum=1, maximum=64)
    keep_symbols: bool = option(False, help="do not strip")
    level: Level = option(Level.LOW)  # noqa: RUF009  # an option is no value yet
    extra: tuple[str, ...] = option(())
    user: str | None = option(None, pattern="^[a-z]+$")


class MiniFrontend(GrammarFrontend):
    """`from`, `run` and `copy`, one a line."""

    name = "mini"
    filename = "Minifile"
    grammar = "mini.lark"
    options = Options
    rules = (SHOUTING,)
    words: ClassVar = {"WORD": "a word", "REST": "a command"}

    async def lower(self, tree: Tree, context: LowerContext) -> Image:
        return await self._onto(context.scratch(), tree, context)

    async def _onto(self, image: Image, tree: Tree, context: LowerContext) -> Image:
        options = context.options(Options)
        for statement in tree:
            words = statement.texts("WORD")
            match statement.name:
                case "from":
                    image = await context.image(words[0])
                case "run":
                    text = statement["REST"].text
                    if text.isupper():
                        context.warn(SHOUTING, f"`{text}` shouts", statement)
                    image = image.run(text)
                case "copy":
                    image = image.copy(await context.context(words[0]), *words)
                case "option":
                    image = image.env(words[0], str(getattr(options, words[0])))
                case "include":
                    included = await context.include(words[0], statement)
                    image = await self._onto(image, included, context)
        return image
