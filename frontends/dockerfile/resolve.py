"""Base images of stages: looked up, with their triggers run into the stages.

Triggers may name further stages and images, so this goes round until nothing new comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torana.core.errors import BuildFileError, ToranaError
from torana.core.oci.platform import Platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.evaluation import Settings
from torana.frontends.dockerfile.graph import link, reachable
from torana.frontends.dockerfile.instructions import Onbuild, read_instruction
from torana.frontends.dockerfile.parser import Node, parse
from torana.frontends.dockerfile.stage import SCRATCH, Stage, prefix
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import located
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.lock import LockError, is_strict
from torana.frontends.kit.named import ContextSpecifier
from torana.frontends.kit.suggest import did_you_mean

# The names without a slash are those that the original compares with, too.
_COMMON_IMAGES: Final = tuple(
    f"{prefix}{name}{tag}"
    for name in ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")
    for tag in ("", ":latest")
    for prefix in ("", "docker.io/library")
)
_TRIGGERS: Final = "OnBuild"


@dataclass(slots=True)
class Resolver:
    """Resolves the stages of one conversion."""

    context: BuildContext
    settings: Settings
    target_platform: Platform
    is_implicit: bool  # no platform was asked for
    all_stages: bool = False

    async def run(self, target: Stage) -> set[Stage]:
        """Resolve all that `target` needs; gives those stages."""
        while True:
            needed = set(self.settings.stages.all) if self.all_stages else reachable(target)
            await self._resolve(needed)
            if not self._take_triggers(needed):
                return needed

    async def _resolve(self, needed: set[Stage]) -> None:
        import asyncio

        pending = [
            stage
            for stage in self.settings.stages.all
            if stage.base is None and not stage.is_evaluated and not stage.is_resolved
        ]
        outcomes = await asyncio.gather(
            *(self._resolve_one(stage, stage in needed) for stage in pending),
            return_exceptions=True,
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for stage in pending:
            stage.is_resolved = stage in needed
            self._name(stage)

    def _name(self, stage: Stage) -> None:
        """Name the FROM step; also of what is not needed yet, which uses up a number."""
        is_hollow = stage.is_resolved and not stage.reference
        if stage.named is not None or stage.base_name == SCRATCH or is_hollow:
            return
        settings = self.settings
        shown = stage.platform if settings.shows_platform else None
        start = prefix(stage, shown, shows_name=settings.stages.shows_names)
        stage.from_name = f"{start}FROM {stage.reference}"

    async def _resolve_one(self, stage: Stage, is_needed: bool) -> None:
        if stage.base_name == SCRATCH and stage.replacement is None:
            stage.platform = self.target_platform
            stage.image = ImageConfig.empty(self.target_platform)
            stage.is_evaluated = stage.is_image
            return
        written = stage.base_name
        with located(self.settings.file, stage.ranges):
            try:
                reference = parse_reference(written).with_default_tag()
            except InvalidReferenceError as err:
                raise BuildFileError(
                    f'failed to parse stage name "{written}": {err.message}'
                ) from err
            if not is_needed:
                return
            if stage.replacement is not None:
                await self._replace(stage, stage.replacement)
                return
            platform = stage.platform or self.target_platform
            found = self.context.find_named(str(reference), platform)
            if found is None:
                await self._pull(stage, str(reference), written, platform)
                return
            stage.named = await self.context.load_named(found)
            stage.image = (
                ImageConfig.empty(platform)
                if stage.named.config is None
                else ImageConfig.parse(stage.named.config)
            )
            stage.base_config = stage.image.to_json()
            stage.image.created = ""
            stage.platform = platform
            stage.tree_platform = platform.normalized()
            stage.is_evaluated = stage.is_image

    async def _replace(self, stage: Stage, replacement: ContextSpecifier) -> None:
        """Let a named context stand for the whole stage; its instructions are not run."""
        stage.named = await self.context.load_named(replacement)
        stage.is_evaluated = True
        if stage.named.config is None:
            stage.image = ImageConfig.unknown()
            return
        stage.image = ImageConfig.parse(stage.named.config)
        stage.image.created = ""
        if stage.image.platform.os and stage.image.platform.architecture:
            stage.platform = stage.image.platform
            stage.tree_platform = stage.platform.normalized()

    async def _pull(self, stage: Stage, reference: str, written: str, platform: Platform) -> None:
        if is_strict(self.context) and parse_reference(reference).digest is None:
            raise LockError(
                f"not pinned: `{reference}`",
                hint="`torana build --locked` takes images by digest: `FROM name@sha256:...`",
            )
        shown = f"{platform.format()} internal" if self.settings.shows_platform else "internal"
        try:
            found = await self.context.resolve_image(
                reference, platform, log_name=f"[{shown}] load metadata for {reference}"
            )
        except ToranaError as err:
            stages = self.settings.stages
            names = stages.names if len(stages.all) > 1 else ()
            hint = did_you_mean(written, (*names, *_COMMON_IMAGES))
            err.message = f"{written}: {err.message}{hint}"
            err.args = (err.message,)
            raise
        image = ImageConfig.parse(found.config)
        stage.base_config = image.to_json()
        image.created = ""
        if not image.is_hollow:
            pinned = parse_reference(found.ref)  # a policy may have named another
            stage.reference = str(pinned.with_digest(found.digest) if found.digest else pinned)
        stage.image = image
        stage.platform = self._actual_platform(stage, image.platform, platform)
        stage.tree_platform = stage.platform.normalized() if stage.reference else None
        self._lint_platform(stage, image.platform, stage.platform, written)
        stage.is_evaluated = stage.is_image

    def _actual_platform(self, stage: Stage, found: Platform, asked: Platform) -> Platform:
        """Take the platform of the image where it was left open and the engine can run it."""
        if not self.is_implicit or stage.has_platform_flag:
            return asked
        if not (found.os and found.architecture) or _same(found, asked):
            return asked
        return next((p for p in self.context.build_platforms if _same(p, found)), asked)

    def _lint_platform(
        self, stage: Stage, found: Platform, expected: Platform, written: str
    ) -> None:
        if _same(found, expected):
            return
        pulled, wanted = (p.normalized().format_all() for p in (found, expected))
        self.settings.linter.report(
            lint.INVALID_BASE_IMAGE_PLATFORM,
            f'Base image {written} was pulled with platform "{pulled}", expected "{wanted}" for '
            "current build",
            stage.ranges,
        )

    def _take_triggers(self, needed: Iterable[Stage]) -> bool:
        """Put the triggers of bases in front of stages; says whether stages came in."""
        has_new = False
        wanted = set(needed)
        for stage in list(self.settings.stages.all):
            if stage not in wanted or stage.has_triggers:
                continue
            stage.has_triggers = True
            triggers = _triggers(stage)
            if triggers:
                with located(self.settings.file, stage.ranges):
                    has_new |= self._add_triggers(stage, triggers)
        return has_new

    def _add_triggers(self, stage: Stage, triggers: list[str]) -> bool:
        steps = []
        for text in triggers:
            try:
                tree = parse(text.encode("utf-8", "surrogateescape"))
            except BuildFileError as err:
                raise BuildFileError(err.message) from err  # its place is in the trigger's own text
            if len(tree.nodes) != 1:
                raise BuildFileError("onbuild trigger should be a single expression")
            node = tree.nodes[0]
            instruction = read_instruction(_moved(node, stage), self.settings.file.filename)
            steps.append(
                link(
                    stage,
                    instruction,
                    self.settings.stages,
                    self.settings.expander,
                    ranges=stage.ranges,
                    is_trigger=True,
                )
            )
        stage.steps[:0] = steps
        stage.step_total += len(steps)
        return any(step.sources for step in steps)


def _triggers(stage: Stage) -> list[str]:
    if stage.base is not None:
        return [
            step.instruction.expression
            for step in stage.base.steps
            if isinstance(step.instruction, Onbuild)
        ]
    if stage.image is None:
        return []
    return list(stage.image.config.pop(_TRIGGERS, None) or ())


def _moved(node: Node, stage: Stage) -> Node:
    """Put a trigger where the FROM is."""
    from dataclasses import replace

    return replace(node, source_ranges=stage.ranges, comments=())


def _same(one: Platform, other: Platform) -> bool:
    return (one.os, one.architecture) == (other.os, other.architecture)
