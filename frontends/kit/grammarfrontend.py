"""`GrammarFrontend`: a language given by a lark grammar in a file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from torana.frontends.kit.language import Lowered, TextFrontend
from torana.frontends.kit.lowering import LowerContext, Target
from torana.frontends.kit.resources import read_resource
from torana.frontends.kit.tree import Place, Tree

if TYPE_CHECKING:
    from torana.frontends.kit.grammar import Grammar


class GrammarFrontend(TextFrontend[Tree]):
    """A frontend with a lark grammar; its start rule is `start`.

    `grammar` names a file beside the module of the class. `words` names terminals for people in
    messages, such as `{"STRING": "a text in quotes"}`; `settings` are lark's.
    """

    grammar: ClassVar[str]
    words: ClassVar[Mapping[str, str]] = {}
    settings: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def lower(self, tree: Tree, context: LowerContext) -> Lowered | Awaitable[Lowered]: ...

    def targets(self, tree: Tree) -> Sequence[Target]:
        return ()

    def parse(self, text: str, whole: Place) -> Tree:
        return _grammar(type(self)).parse(text, whole)


@lru_cache(maxsize=64)
def _grammar(frontend: type[GrammarFrontend]) -> Grammar:
    """Compile a grammar, once a process."""
    from torana.frontends.kit.grammar import Grammar

    text = read_resource(frontend.__module__, frontend.grammar)
    return Grammar(text, frontend.words, frontend.settings)
