"""`Conversion`: one Dockerfile for one platform, from text to LLB.

The steps: read the file, make stages, look images up, evaluate what the target needs, emit.

Spec: conversion reference, section 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.llb.definition import Definition
from torana.core.llb.state import State
from torana.core.oci.platform import Platform
from torana.core.patterns import PatternMatcher
from torana.core.records import dataclass
from torana.frontends.dockerfile import metadata
from torana.frontends.dockerfile.arguments import predefined
from torana.frontends.dockerfile.copy import add, copy, workdir
from torana.frontends.dockerfile.emit import Emitter
from torana.frontends.dockerfile.evaluation import Evaluation, Settings, note_global_scans
from torana.frontends.dockerfile.expansion import Expander
from torana.frontends.dockerfile.globals import (
    GlobalArgs,
    evaluate_from,
    evaluate_globals,
    lint_defaults,
)
from torana.frontends.dockerfile.graph import check_cycles, depth_first, link
from torana.frontends.dockerfile.instructions import Add, Copy, Run, StageText, Workdir
from torana.frontends.dockerfile.outline import Outline, OutlineArg, collect
from torana.frontends.dockerfile.paths import stored_work_dir, work_dir
from torana.frontends.dockerfile.planning import Plan, lint_together, read_file
from torana.frontends.dockerfile.resolve import Resolver
from torana.frontends.dockerfile.run import run
from torana.frontends.dockerfile.sourcedate import stage_epoch
from torana.frontends.dockerfile.stage import SCRATCH, PlannedStep, Stage, Stages
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.diagnostics import located
from torana.frontends.kit.epoch import EPOCH, rfc3339
from torana.frontends.kit.lint import Linter
from torana.frontends.kit.proxies import proxy_env
from torana.frontends.kit.suggest import did_you_mean

_RESERVED: Final = frozenset(("context", SCRATCH))
HANDLERS: Final[Mapping[type[Any], Callable[[Evaluation, Any], None]]] = {
    **metadata.HANDLERS,
    Add: add,
    Copy: copy,
    Run: run,
    Workdir: workdir,
}


class TargetError(UserError):
    """The target stage does not exist."""

    code = "TARGET_UNKNOWN"


@dataclass(slots=True, kw_only=True)
class Conversion:
    """One conversion; `run` does it all, what it found stays in the fields."""

    context: BuildContext
    platform: Platform | None  # None: not asked for, the build platform
    linter: Linter
    all_stages: bool = False
    settings: Settings | None = None
    global_outline: Mapping[str, OutlineArg] = field(default_factory=dict)
    target: Stage | None = None
    epoch: int | None = None

    @property
    def target_platform(self) -> Platform:
        return self.platform or self.context.build_platform

    async def evaluate(self) -> Stage:
        """Do everything but LLB; gives the target.

        Raises:
            BuildFileError: the file is wrong; its sources show where.
        """
        context, file, options = self.context, self.context.file, self.context.options
        plan = read_file(file, self.linter)
        lint_together(plan, self.linter)
        expander = Expander(plan.tree.escape)
        last = plan.stages[-1].head.name
        build_args = dict(options.build_args)
        known = predefined(context.build_platform, self.target_platform, options.target or last)
        known |= {name: build_args[name] for name in known if name in build_args}
        lint_defaults(plan, known, expander, file, self.linter)
        args = evaluate_globals(plan.global_args, known, build_args, expander, file)
        self.global_outline = args.outline
        await self._set_epoch(plan, args, build_args, expander)
        self.settings = Settings(
            options=options,
            file=file,
            stages=Stages(),
            linter=self.linter,
            expander=expander,
            build_args=build_args,
            global_args=args.values,
            caps=context.client.llb_caps,
            epoch=self.epoch,
            created="" if self.epoch is None else rfc3339(self.epoch),
            shows_platform=options.multi_platform or len(options.platforms) > 1,
        )
        self._make_stages(plan, args)
        target = self.target = self._find_target()
        self._link_stages(plan)
        check_cycles(self.settings.stages, file)
        self.settings.stages.shows_names = len(self.settings.stages.all) > 1
        resolver = Resolver(
            context, self.settings, self.target_platform, self.platform is None, self.all_stages
        )
        needed = await resolver.run(target)
        await self._load_ignore_file()
        for stage in list(self.settings.stages.all):
            if self.all_stages or (stage in needed and not stage.is_evaluated):
                evaluate_stage(self.settings, stage)
        self._finish(target)
        self.linter.check()
        return target

    async def _set_epoch(
        self, plan: Plan, args: GlobalArgs, build_args: dict[str, str], expander: Expander
    ) -> None:
        """Resolve SOURCE_DATE_EPOCH and put the number where the argument is read."""
        text = build_args.get(EPOCH, args.values.get(EPOCH, ""))
        if text:
            self.epoch = await stage_epoch(text, self.context, plan, args, expander)
        resolved = "" if self.epoch is None else str(self.epoch)
        for values in (build_args, args.values):
            if EPOCH in values:
                if resolved:
                    values[EPOCH] = resolved
                else:
                    del values[EPOCH]

    def _make_stages(self, plan: Plan, args: GlobalArgs) -> None:
        settings = self._settings
        for text in plan.stages:
            head = text.head
            with located(settings.file, head.ranges):
                found = evaluate_from(head, args, settings.expander, settings.file, self.linter)
                stage = Stage(
                    found.name,
                    name=head.name,
                    written=head.original,
                    ranges=head.ranges,
                    comments=head.comments,
                    base=settings.stages.find(found.name),
                    platform=found.platform,
                    has_platform_flag=found.platform is not None,
                )
            if head.name and head.name not in _RESERVED:
                platform = stage.platform or self.platform
                stage.replacement = self.context.find_named(stage.name, platform)
            settings.stages.add(stage)
            if stage.replacement is not None:
                stage.base = None
            else:
                stage.outline.reads.update(dict.fromkeys(found.reads))

    def _find_target(self) -> Stage:
        settings = self._settings
        name = settings.options.target
        if not name:
            return settings.stages.all[-1]
        stage = settings.stages.find_any_case(name)
        if stage is None:
            hint = did_you_mean(name, settings.stages.names)
            raise TargetError(f'target stage "{name}" could not be found{hint}')
        return stage

    def _link_stages(self, plan: Plan) -> None:
        settings = self._settings
        by_text: list[tuple[Stage, StageText]] = list(
            zip(list(settings.stages.all), plan.stages, strict=True)
        )
        for stage, text in by_text:
            stage.steps = [
                link(
                    stage,
                    instruction,
                    settings.stages,
                    settings.expander,
                    ranges=instruction.ranges,
                )
                for instruction in text.body
            ]
            if stage.replacement is None:
                stage.count_steps()

    async def _load_ignore_file(self) -> None:
        patterns = await self.context.ignore_patterns()
        self._settings.ignore_patterns = patterns
        matcher = PatternMatcher(patterns)
        if patterns and not matcher.has_exclusions:
            self._settings.ignored = matcher

    def _finish(self, target: Stage) -> None:
        """Put options on the target; all of it is the result, so all of it is used."""
        target.used.add("/")
        image = target.current_image
        if labels := self._settings.options.labels:
            image.config["Labels"] = {**(image.config.get("Labels") or {}), **labels}
        if self.platform is not None:
            image.set_platform(self.platform)
        image.platform = image.platform.normalized()
        if not image.platform.os:
            image.platform = replace(image.platform, os="linux")

    def outline(self) -> Outline:
        """Give what the target can be given; only after `evaluate`."""
        stages = (stage.outline for stage in depth_first(self.found_target))
        return collect(stages, self.global_outline)

    @property
    def found_target(self) -> Stage:
        """The target stage; only after `evaluate`."""
        assert self.target is not None, "evaluate first"
        return self.target

    @property
    def _settings(self) -> Settings:
        assert self.settings is not None, "evaluate first"
        return self.settings

    def emitter(self) -> Emitter:
        """Give what makes states of evaluated stages."""
        settings, context = self._settings, self.context
        return Emitter(
            options=settings.options,
            info=context.info,
            caps=settings.caps,
            proxy=proxy_env(settings.options.build_args),
            main=lambda: context.main_state(settings.used.follow_paths(), settings.ignore_patterns),
        )

    def marshal(self, state: State) -> Definition:
        """Give the definition of a result."""
        return self.context.marshal(state, self.target_platform)


def begin(stage: Stage) -> None:
    """Set what a stage starts with: all of its base stage, or what its image says."""
    base = stage.base
    if base is not None:
        stage.platform = base.platform
        stage.image = base.current_image.copy()
        stage.image.config.pop("OnBuild", None)
        stage.base_config = base.base_config
        stage.environment = type(base.environment)(base.environment)
        stage.args = base.args.copy()
        stage.work_dir = base.work_dir
        stage.is_work_dir_set = base.is_work_dir_set
        stage.used = base.used
        stage.tree_platform = base.tree_platform
    image = stage.current_image
    image.ensure_path(stage.system)
    stage.environment.set_all(image.env)
    if path := image.config.get("WorkingDir"):
        stage.work_dir = work_dir(path, path, stage.system)
        image.config["WorkingDir"] = stored_work_dir(stage.work_dir, stage.system)
    stage.user = image.config.get("User") or ""


def evaluate_stage(settings: Settings, stage: Stage) -> None:
    """Run the instructions of a stage whose sources are evaluated.

    Raises:
        BuildFileError: located at the instruction.
    """
    with located(settings.file, stage.ranges):
        begin(stage)
    evaluation: Evaluation | None = None
    note_global_scans(settings, stage)
    for step in stage.steps:
        if evaluation is None:
            evaluation = Evaluation(settings, stage, step)
        evaluation.step = step
        _evaluate_step(evaluation, step)
    stage.is_evaluated = True


def _evaluate_step(evaluation: Evaluation, step: PlannedStep) -> None:
    with located(evaluation.settings.file, step.ranges):
        HANDLERS[type(step.instruction)](evaluation, step.instruction)
