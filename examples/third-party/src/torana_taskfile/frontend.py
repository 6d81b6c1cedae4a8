"""`TaskfileFrontend`: recipes to LLB."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torana.frontends.kit import (
    GrammarFrontend,
    Image,
    LowerContext,
    Rule,
    Target,
    Tree,
    option,
)

_VARIABLE = re.compile(r"\{\{(\w+)\}\}")
UNUSED_VARIABLE = Rule("UnusedVariable", "Variables should be used")


@dataclass(frozen=True)
class Options:
    """What a user may set."""

    vars: tuple[str, ...] = option((), help="NAME=VALUE pairs, instead of what the file says")


class TaskfileFrontend(GrammarFrontend):
    """Recipes with what they need, one command a line."""

    name = "taskfile"
    filename = "Taskfile"
    grammar = "taskfile.lark"
    options = Options
    rules = (UNUSED_VARIABLE,)
    words: ClassVar = {"NAME": "a name", "VALUE": "a value", "WORD": "a path", "REST": "a command"}

    def targets(self, tree: Tree) -> Sequence[Target]:
        return [
            Target(name=recipe["NAME"].text, place=recipe["NAME"].place)
            for recipe in tree.all("recipe")
        ]

    async def lower(self, tree: Tree, context: LowerContext) -> Image:
        if context.target is None:
            raise tree.error("there is no recipe")
        recipes = _Recipes(tree, context)
        image = await recipes.made(context.target.name, await recipes.base())
        recipes.check()
        return image


class _Recipes:
    """The recipes of one file, in the making."""

    def __init__(self, tree: Tree, context: LowerContext) -> None:
        self._tree = tree
        self._context = context
        self._recipes = {recipe["NAME"].text: recipe for recipe in tree.all("recipe")}
        self._variables = {v["NAME"].text: v["VALUE"].text for v in tree.all("variable")}
        given = context.options(Options).vars
        self._variables |= dict(pair.split("=", 1) for pair in given if "=" in pair)
        self._used: set[str] = set()
        self._begun: list[str] = []
        self._done: set[str] = set()

    async def base(self) -> Image:
        image = self._context.scratch()
        for base in self._tree.all("from"):
            with base.located():
                image = await self._context.image(self._filled(base["VALUE"]))
        return image

    async def made(self, name: str, image: Image) -> Image:
        """Give `image` after the recipe, and all that it needs, each once."""
        if name in self._done:
            return image
        self._begun.append(name)
        recipe = self._recipes[name]
        for needed in recipe["needs"]:
            if needed.text not in self._recipes:
                raise needed.error(f"no such recipe: `{needed.text}`")
            if needed.text in self._begun:
                chain = " -> ".join((*self._begun, needed.text))
                raise needed.error(f"recipes need each other: {chain}")
            image = await self.made(needed.text, image)
        image = self._context.part_of(name, image)
        for step in recipe:
            if step.name == "run":
                image = image.run(self._filled(step["REST"]))
            if step.name == "copy":
                src, dest = (self._filled(word) for word in step.all("WORD"))
                image = image.copy(await self._context.context(src), src, dest)
        self._begun.pop()
        self._done.add(name)
        return image

    def _filled(self, text: Tree) -> str:
        def value(match: re.Match[str]) -> str:
            if match[1] not in self._variables:
                raise text.error(f"no such variable: `{match[1]}`")
            self._used.add(match[1])
            return self._variables[match[1]]

        return _VARIABLE.sub(value, text.text)

    def check(self) -> None:
        for variable in self._tree.all("variable"):
            name = variable["NAME"].text
            if name not in self._used:
                self._context.warn(UNUSED_VARIABLE, f"`{name}` is not used", variable)
