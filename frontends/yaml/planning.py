"""`Planner`: declared stages to typed ones: expressions expanded, templates inlined, names found.

Nothing is looked up here; all of it is a function of the files, the arguments and the platforms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Entry, Items, Mark, Node, Scalar, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.arguments import read_inputs
from torana.frontends.yaml.catalog import Catalog, Declared
from torana.frontends.yaml.document import Document, Template
from torana.frontends.yaml.expressions.values import Value
from torana.frontends.yaml.imagekeys import read_image
from torana.frontends.yaml.model import AnyStep, Origin, OriginKind, Place, Set, Stage
from torana.frontends.yaml.schema import verbs
from torana.frontends.yaml.scope import Scope
from torana.frontends.yaml.steps import Reader, settings
from torana.frontends.yaml.testkeys import read_tests

MAX_STEPS: Final = 250_000  # of all stages that are read, calls of templates included
MAX_STAGE_STEPS: Final = 20_000
MAX_CALLS: Final = 16  # templates in templates
_MAX_PLACES: Final = 3  # in messages: an error fits on a screen
_DEFAULTS: Final = ("shell", "env", "workdir", "user", "network")


@dataclass(slots=True)
class Planner:
    """Reads stages for one target platform, each once."""

    catalog: Catalog
    target: Platform
    given: frozenset[str] = frozenset()  # named contexts: they stand for stages, too
    stages: dict[str, Stage] = field(default_factory=dict)
    _steps: int = 0
    _stage_start: int = 0

    def stage(self, name: str, place: Mark | None = None) -> Stage:
        """Give a stage by its full name.

        Raises:
            BuildFileError: something in it is wrong; located.
        """
        if name not in self.stages:
            mark = place or self.catalog.stages[name].mark
            self.stages[name] = self._read(self.catalog.find(name, mark))
        return self.stages[name]

    def order(self, names: list[str]) -> list[Stage]:
        """Give the stages that `names` need, what is read before what reads it.

        Raises:
            BuildFileError: stages read each other in a circle, or one is wrong; located.
        """
        done: dict[str, Stage] = {}
        opened: dict[str, None] = {}
        waiting: list[tuple[str, Mark | None, bool]] = [
            (name, None, False) for name in reversed(names)
        ]
        while waiting:
            name, place, is_left = waiting.pop()
            if is_left:
                del opened[name]
                done[name] = self.stages[name]
                continue
            if name in done:
                continue
            if name in opened:
                path = list(opened)
                circle = " -> ".join((*path[path.index(name) :], name))
                assert place is not None
                raise place.error(f"stages read each other in a circle: {circle}")
            stage = self.stage(name, place)
            opened[name] = None
            waiting.append((name, None, True))
            waiting += [
                (origin.name, mark, False)
                for origin, mark in reversed(stage.origins())
                if origin.kind is OriginKind.STAGE
            ]
        return list(done.values())

    def _read(self, declared: Declared) -> Stage:
        document, scope, node = declared.document, declared.scope, declared.node
        reader = self._reader(document)
        place = Place((declared.mark,))
        self._stage_start = self._steps
        read = {
            name: scope.expand(entry.node)
            for name, entry in node.entries.items()
            if name not in ("steps", "tests", "if", "matrix", "variant")
        }
        expanded = Table({n: Entry(node.entries[n].key, v) for n, v in read.items()}, node.mark)
        fields.absolute(expanded.get("workdir"))
        from_ = expanded.get("from")
        origin = None if from_ is None else self._origin_of(document, from_)
        merged = expanded.get("merge")
        steps = node.get("steps")
        made: list[AnyStep] = []
        if isinstance(steps, Items):
            made = list(self._inline(steps, document, scope, (), ()))
        tests = node.get("tests")
        defaults = document.root.get("defaults")
        return Stage(
            name=declared.name,
            mark=declared.mark,
            description=fields.text(node.get("description")),
            origin=origin,
            origin_mark=from_.mark if from_ is not None else node.key("merge"),
            merged=self._merged(document, merged),
            platform=fields.platform(expanded.get("platform")),
            defaults=_defaults(defaults, scope, place),
            settings=settings(expanded, place, ""),
            caches=reader.caches(expanded.get("cache")),
            steps=made,
            tests=read_tests(scope.expand(tests), reader) if isinstance(tests, Items) else (),
            image=read_image(fields.table(expanded.get("image"))),
        )

    def _reader(self, document: Document) -> Reader:
        secrets = document.secrets
        return Reader(
            lambda text, mark: self.origin(document, text, mark),
            self.target,
            None if secrets is None else {name: each.is_required for name, each in secrets.items()},
        )

    def _merged(self, document: Document, node: Node | None) -> tuple[Origin, ...]:
        found = []
        for item in node if isinstance(node, Items) else ():
            origin = self.origin(document, fields.text(item), item.mark)
            is_stage = origin.kind is OriginKind.STAGE
            if is_stage and self.catalog.stages[origin.name].is_left_out:
                continue
            found.append(origin)
        return tuple(found)

    def _origin_of(self, document: Document, node: Node) -> Origin:
        if isinstance(node, Scalar):
            return self.origin(document, node.text, node.mark)
        assert isinstance(node, Table)
        stage = node.get("stage")
        if stage is not None:
            origin = self.origin(document, fields.text(stage), stage.mark)
            if origin.kind is not OriginKind.STAGE:
                names = [n.removeprefix(document.prefix) for n in self.catalog.stages]
                near = suggest(fields.text(stage), names)
                raise stage.mark.error(
                    f"no such stage: `{fields.text(stage)}`",
                    hint=f"did you mean `{near}`?" if near else None,
                )
            return origin
        platform = fields.platform(node.get("platform"))
        return Origin(
            OriginKind.IMAGE,
            fields.text(node.get("image")),
            fields.text(node.get("digest")),
            platform.format() if platform else "",
        )

    def origin(self, document: Document, text: str, mark: Mark) -> Origin:
        """Find what a name stands for: a stage, a context, or else an image.

        Raises:
            BuildFileError: it is a group of variants, or a stage of an include that has none such.
        """
        if text in ("context", "scratch"):
            return Origin(OriginKind.MAIN if text == "context" else OriginKind.SCRATCH)
        full = document.prefix + text
        if full in self.given or text in document.contexts:
            return Origin(OriginKind.NAMED, full if full in self.given else text)
        if full in self.catalog.stages:
            return Origin(OriginKind.STAGE, full)
        if full in self.catalog.groups:
            members = ", ".join(self.catalog.groups[full].members[:6])
            raise mark.error(f"`{text}` is a group of variants", hint=f"name one of {members}")
        alias, dot, name = text.partition(".")
        if dot and alias in document.includes and "/" not in text and ":" not in text:
            known = list(document.includes[alias].stages)
            near = suggest(name, known)
            raise mark.error(
                f"include `{alias}` has no stage `{name}`",
                hint=f"did you mean `{alias}.{near}`?" if near else f"it has {', '.join(known)}",
            )
        if not text:
            raise mark.error("an empty name of a stage or image")
        return Origin(OriginKind.IMAGE, text)

    def _inline(
        self,
        steps: Items,
        document: Document,
        scope: Scope,
        calls: tuple[Mark, ...],
        open_: tuple[str, ...],
    ) -> Iterator[AnyStep]:
        reader = self._reader(document)
        for item in steps:
            self._steps += 1
            if self._steps > min(MAX_STEPS, self._stage_start + MAX_STAGE_STEPS):
                limit = f"{MAX_STAGE_STEPS} steps in a stage, or {MAX_STEPS} in all"
                raise item.mark.error(f"more than {limit}, those of templates included")
            place = Place((item.mark, *calls))
            if isinstance(item, Scalar):
                node = Table({"run": Entry(item, scope.expand(item))}, item.mark)
                yield reader.step("run", node, place)
                continue
            assert isinstance(item, Table)
            if not scope.condition(item.get("if")):
                continue
            verb = next(verb for verb in verbs() if verb in item)
            if verb == "uses":
                yield from self._call(item, document, scope, place, open_)
            else:
                yield reader.step(verb, _expanded(item, scope), place)

    def _call(
        self, node: Table, document: Document, scope: Scope, place: Place, open_: tuple[str, ...]
    ) -> Iterator[AnyStep]:
        named = node.get("uses")
        assert isinstance(named, Scalar)
        owner, template = self._template(
            document, scope.expand_text(named.text, named.mark), named.mark
        )
        name = f"{owner.file.filename}:{template.name}"
        if name in open_:
            circle = " -> ".join(
                each.rpartition(":")[2] for each in (*open_[open_.index(name) :], name)
            )
            raise named.mark.error(f"templates use each other in a circle: {circle}")
        if len(open_) >= MAX_CALLS:
            raise named.mark.error(f"more than {MAX_CALLS} templates inside each other")
        given = fields.table(node.get("with"))
        values: dict[str, tuple[Value, Mark]] = {}
        for key, entry in given.entries.items() if given else ():
            values[key] = (_given(entry.node, scope), entry.node.mark)
        inputs = read_inputs(template.inputs, values, named.mark)
        inner = self.catalog.scopes[owner].adding("inputs", inputs)
        try:
            yield from self._inline(template.steps, owner, inner, place.marks, (*open_, name))
        except BuildFileError as err:
            if len(err.sources) < _MAX_PLACES:
                err.sources = (*err.sources, named.mark.file.excerpt((named.mark.range,)))
            raise

    def _template(self, document: Document, name: str, mark: Mark) -> tuple[Document, Template]:
        if name in document.templates:
            return document, document.templates[name]
        alias, slash, rest = name.partition("/")
        home = document.includes.get(alias) or document.packs.get(alias) if slash else None
        if home is not None and rest in home.templates:
            return home, home.templates[rest]
        known = [
            *document.templates,
            *(
                f"{a}/{t}"
                for a, d in (document.includes | document.packs).items()
                for t in d.templates
            ),
        ]
        near = suggest(name, known)
        hint = (
            f"did you mean `{near}`?"
            if near
            else f"known are {', '.join(known)}"
            if known
            else None
        )
        if slash and home is None:
            hint = (
                hint or f"include it as `{alias}`, or install a distribution with steps `{alias}`"
            )
        raise mark.error(f"no such template: `{name}`", hint=hint)


def _expanded(item: Table, scope: Scope) -> Table:
    """Expand a step; its condition is decided already, and text may ask to be kept as it is."""
    if not item.has_expressions:
        return item
    keeps = fields.flag(item.get("expand"), True) is False
    entries = {
        name: Entry(
            entry.key, entry.node if keeps and name == "content" else scope.expand(entry.node)
        )
        for name, entry in item.entries.items()
        if name != "if"
    }
    return Table(entries, item.mark)


def _given(node: Node, scope: Scope) -> Value:
    if isinstance(node, Items):
        return tuple(_given(item, scope) for item in node)
    if not isinstance(node, Scalar):
        raise node.mark.error("an input is a value or a list of values")
    if node.has_expressions:
        return scope.value(node)
    return None if node.value is None else node.text


def _defaults(node: Node | None, scope: Scope, place: Place) -> Set:
    if not isinstance(node, Table):
        return Set(name="", place=place)
    entries = {
        name: Entry(entry.key, scope.expand(entry.node))
        for name, entry in node.entries.items()
        if name in _DEFAULTS
    }
    return settings(Table(entries, node.mark), place, "")
