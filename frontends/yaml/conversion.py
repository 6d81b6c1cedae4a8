"""`Conversion`: one file for one target platform, from checked nodes to LLB.

The steps: catalog the stages, read those that the target needs, look up what comes from outside,
emit. Only the third asks the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from torana.core.errors import UserError
from torana.core.llb.actions import FileActions
from torana.core.llb.definition import Definition
from torana.core.llb.state import State, scratch
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.epoch import EPOCH
from torana.frontends.kit.proxies import PROXIES, proxy_env
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Mark
from torana.frontends.yaml import fields
from torana.frontends.yaml import model as m
from torana.frontends.yaml.built import Built
from torana.frontends.yaml.catalog import Catalog
from torana.frontends.yaml.document import ContextDeclaration, Document
from torana.frontends.yaml.emit import Emitter
from torana.frontends.yaml.expressions.values import Value
from torana.frontends.yaml.imagekeys import empty_config, encoded
from torana.frontends.yaml.planning import Planner
from torana.frontends.yaml.resolving import Resolver
from torana.frontends.yaml.scope import Group

_KNOWN_ARGS: Final = (EPOCH,)
_PREFIXES: Final = ("BUILDKIT_", "TORANA_")


class UndeclaredArgumentError(UserError):
    """An argument was given that the file does not declare."""

    code = "ARGUMENT_UNDECLARED"


@dataclass(slots=True, kw_only=True)
class Conversion:
    """One conversion; `plan` and `emit` do it, what they found stays in the fields."""

    context: BuildContext
    document: Document
    platform: Platform
    locked: Mapping[str, str] = field(default_factory=dict)
    is_locked: bool = False
    shows_platform: bool = False
    catalog: Catalog = field(default_factory=Catalog)
    planner: Planner | None = None
    target: str = ""
    stages: list[m.Stage] = field(default_factory=list)  # what is read before what reads it
    pins: dict[str, str] = field(default_factory=dict)
    emitter: Emitter | None = None

    def plan(self, *, all_stages: bool = False, is_question: bool = False) -> None:
        """Read the stages that the target needs, or all.

        For a question about the file values are made up for arguments that must be given.

        Raises:
            BuildFileError: the file is wrong; located.
            TargetError: there is no such target.
            UndeclaredArgumentError: an argument was given that nobody declared.
        """
        args = self.context.options.build_args
        check_build_args(self.document, args)
        self.catalog = Catalog.of(
            self.document,
            args,
            surroundings(self.context, self.platform),
            has_placeholders=is_question,
        )
        given = frozenset(
            key.removeprefix("context:").partition("::")[0]
            for key in self.context.client.options
            if key.startswith("context:")
        )
        self.planner = Planner(self.catalog, self.platform, given)
        names = [name for name, each in self.catalog.stages.items() if not each.is_left_out]
        if not all_stages:
            self.target = self.catalog.target(self.context.options.target, self.document)
            names = self.members()
        self.stages = self.planner.order(names)

    def members(self) -> list[str]:
        """Give the stages that the target is: itself, or all variants of a group."""
        group = self.catalog.groups.get(self.target)
        return [self.target] if group is None else list(group.members)

    @property
    def targets(self) -> list[m.Stage]:
        wanted = self.members()
        return [stage for stage in self.stages if stage.name in wanted]

    async def resolve(self) -> None:
        """Look up what the stages need from outside.

        Raises:
            ToranaError: something cannot be found; located.
        """
        resolver = Resolver(
            context=self.context,
            contexts=self._contexts(),
            stages=list(self.catalog.stages),
            locked=self.locked,
            is_locked=self.is_locked,
        )
        await resolver.resolve(self._wanted())
        self.pins |= resolver.pins
        ignored = self.document.root.get("ignore")
        exclude = await self.context.ignore_patterns() if ignored is None else fields.texts(ignored)
        used = used_paths(self.stages)
        main = m.Origin(m.OriginKind.MAIN)
        self.emitter = Emitter(
            options=self.context.options,
            caps=self.context.client.llb_caps,
            target=self.platform,
            info=self.context.info,
            proxy=proxy_env(self.context.options.build_args),
            main=lambda: self.context.main_state(used.get(main, ()), exclude),
            trees=resolver.trees,
            used=used,
            shows_platform=self.shows_platform,
        )

    def _contexts(self) -> Mapping[str, ContextDeclaration]:
        return {name: each for doc in self.document.all() for name, each in doc.contexts.items()}

    def _wanted(self) -> dict[tuple[m.Origin, Platform], Mark]:
        """Give all trees from outside with the platforms that they are wanted for."""
        wanted: dict[tuple[m.Origin, Platform], Mark] = {}
        platforms: dict[str, Platform] = {}
        for stage in self.stages:
            platform = stage.platform or self.platform
            if stage.origin is not None and stage.origin.kind is m.OriginKind.STAGE:
                platform = stage.platform or platforms[stage.origin.name]
            platforms[stage.name] = platform
            for origin, mark in stage.origins():
                if origin.kind in (m.OriginKind.IMAGE, m.OriginKind.NAMED):
                    own = fields.platform_text(origin.platform) or stage.platform or self.platform
                    for each in dict.fromkeys((own, platform)):
                        wanted.setdefault((origin, each), mark)
        return wanted

    def emit(self) -> Built:
        """Give LLB and config of the target; a group is a tree with a folder per variant.

        Raises:
            BuildFileError: the engine cannot do what a step needs; located.
        """
        assert self.emitter is not None, "resolve first"
        for stage in self.stages:
            self.emitter.stage(stage)
        members = self.members()
        if self.target in self.catalog.stages:
            return self.emitter.built[self.target]
        actions = FileActions()
        for name in members:
            tree = self.emitter.built[name].tree
            actions = actions.copy(
                tree, "/", f"/{name}/", dir_copy_contents=True, create_dest_path=True
            )
        mark = self.catalog.groups[self.target].mark
        tree = scratch().file(
            actions,
            custom_name=f"[{self.target}] lay out {len(members)} variants",
            location=self.emitter.location((mark,)),
        ) if members else scratch()  # fmt: skip
        return Built(tree=tree, platform=self.platform, config=empty_config(self.platform))

    def config(self, built: Built) -> bytes:
        """Give the image config of a result."""
        return encoded(built.config, built.platform, self.context.options.labels)

    def marshal(self, state: State) -> Definition:
        return self.context.marshal(state, self.platform)


def check_build_args(document: Document, given: Mapping[str, str]) -> None:
    """Refuse arguments that nobody declared.

    Raises:
        UndeclaredArgumentError: there is one.
    """
    for name in given:
        if name in document.arguments or name.startswith(_PREFIXES):
            continue
        if name in _KNOWN_ARGS or name.lower() in PROXIES:
            continue
        near = suggest(name, document.arguments)
        known = ", ".join(document.arguments)
        raise UndeclaredArgumentError(
            f"no such argument is declared: `{name}`",
            hint=f"did you mean `{near}`?" if near
            else f"declared are {known}" if known else "declare it under `args:`",
        )  # fmt: skip


def surroundings(context: BuildContext, target: Platform) -> dict[str, Group]:
    """Give the names `build.*` and `target.*` of expressions."""
    build = context.build_platform
    options = context.client.options
    names: dict[str, Value] = {
        "platform": build.format(),
        "os": build.os,
        "arch": build.architecture,
        "vcs.revision": options.get("vcs:revision", ""),
        "epoch": context.known_epoch,
    }
    wanted: dict[str, Value] = {
        "platform": target.format(),
        "os": target.os,
        "arch": target.architecture,
        "variant": target.variant,
    }
    return {"build": Group.of(names), "target": Group.of(wanted)}


def used_paths(stages: list[m.Stage]) -> dict[m.Origin, tuple[str, ...]]:
    """Give the paths that are read of each tree from outside; empty means all of it."""
    found: dict[m.Origin, set[str]] = {}

    def add(origin: m.Origin, path: str) -> None:
        found.setdefault(origin, set()).add(fields.rooted(path))

    for stage in stages:
        for origin in (stage.origin, *stage.merged):
            if origin is not None:
                add(origin, "/")
        for bind in (bind for test in stage.tests for bind in test.binds):
            add(bind.origin, bind.source)
        for step in stage.steps:
            for origin, path in _reads(step):
                add(origin, path)
    return {
        origin: () if "/" in paths else tuple(sorted(path.lstrip("/") for path in paths))
        for origin, paths in found.items()
    }


def _reads(step: m.AnyStep) -> list[tuple[m.Origin, str]]:
    match step:
        case m.Copy():
            return [(step.origin, path) for path in step.sources]
        case m.Run() | m.Exec():
            reads = [(bind.origin, bind.source) for bind in step.process.binds]
            reads += [(c.origin, c.source) for c in step.process.caches if c.origin is not None]
            if isinstance(step, m.Run) and step.script:
                reads.append((m.Origin(m.OriginKind.MAIN), step.script))
            return reads
    return []
