"""`Stage`: one FROM with what follows, or the image that a COPY --from or a mount names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from torana.core.errors import SourceRange
from torana.core.oci.platform import InvalidPlatformError, Platform, parse_platform
from torana.core.records import dataclass
from torana.frontends.dockerfile.actions import Action, UsedPaths
from torana.frontends.dockerfile.arguments import DeclaredArgs, Environment
from torana.frontends.dockerfile.instructions import (
    Add,
    Copy,
    Instruction,
    Run,
    Workdir,
)
from torana.frontends.dockerfile.outline import StageOutline
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.named import ContextSpecifier, NamedContext

SCRATCH: Final = "scratch"
_NUMBERED: Final = (Run, Copy, Add, Workdir)


@dataclass(slots=True)
class PlannedStep:
    """An instruction of a stage with the stages that it reads, one per `--from` or mount."""

    instruction: Instruction
    sources: Sequence[Stage | None] = ()
    ranges: tuple[SourceRange, ...] = ()
    is_trigger: bool = False  # came from an ONBUILD of the base


@dataclass(slots=True, eq=False)
class Stage:
    """A stage in the making; it is filled from top to bottom as a conversion goes on."""

    # From the file.
    base_name: str  # `scratch`, or an image reference; of a stage based on a stage its name
    name: str = ""  # lower case; empty: unnamed
    written: str = ""  # the FROM line; empty for images without one
    ranges: tuple[SourceRange, ...] = ()
    comments: tuple[str, ...] = ()
    index: int = 0  # among all stages, images included
    base: Stage | None = None
    platform: Platform | None = None  # from --platform, later the real one
    has_platform_flag: bool = False
    steps: list[PlannedStep] = field(default_factory=list)
    is_image: bool = False  # has no FROM line
    outline: StageOutline = field(default_factory=StageOutline)

    # From the graph and the images.
    reads: dict[Stage, PlannedStep] = field(default_factory=dict)
    image: ImageConfig | None = None
    base_config: bytes | None = None
    reference: str = ""  # of the image, with its digest; empty: none (scratch, stage, context)
    from_name: str = ""  # progress name of the FROM step
    named: NamedContext | None = None  # what stands for the image or the stage
    replacement: ContextSpecifier | None = None  # stands for the whole stage
    is_resolved: bool = False
    has_triggers: bool = False  # ONBUILD instructions of the base stage were taken over
    step_total: int = 0
    step_number: int = 0

    # From evaluating.
    is_evaluated: bool = False
    actions: list[Action] = field(default_factory=list)
    environment: Environment = field(default_factory=Environment)
    args: DeclaredArgs = field(default_factory=DeclaredArgs)
    tree_platform: Platform | None = None  # what the tree itself says; scratch says nothing
    work_dir: str = "/"
    user: str = ""
    is_work_dir_set: bool = False
    used: UsedPaths = field(default_factory=UsedPaths)
    scans: bool = False  # part of the SBOM
    scans_context: bool = False

    @property
    def label(self) -> str:
        """The name in messages: `stage-N` where there is none."""
        return self.name or f"stage-{self.index}"

    @property
    def system(self) -> str:
        """Operating system of the target."""
        return self.platform.os if self.platform is not None else "linux"

    @property
    def current_image(self) -> ImageConfig:
        assert self.image is not None, f"{self.label} is not resolved"
        return self.image

    def count_steps(self) -> None:
        """Set the total that progress names show."""
        is_pulled = not self.is_image and self.base is None and self.base_name != SCRATCH
        numbered = sum(isinstance(step.instruction, _NUMBERED) for step in self.steps)
        self.step_total = int(is_pulled) + numbered


@dataclass(slots=True)
class Stages:
    """All stages in order: FROM lines first, then images as they come in."""

    all: list[Stage] = field(default_factory=list)
    shows_names: bool = True  # in the names of steps: not where one stage is all there is
    _by_name: dict[str, Stage] = field(default_factory=dict)
    _known: set[Stage] = field(default_factory=set)

    def __contains__(self, stage: object) -> bool:
        return stage in self._known

    def add(self, stage: Stage) -> None:
        stage.index = len(self.all)
        self.all.append(stage)
        self._known.add(stage)
        if stage.name:
            self._by_name[stage.name] = stage

    def find(self, name: str) -> Stage | None:
        """Give the last stage of that (lower-case) name so far."""
        return self._by_name.get(name)

    def find_any_case(self, name: str) -> Stage | None:
        return self._by_name.get(name.lower())

    @property
    def names(self) -> list[str]:
        """Names that `target` may take."""
        return [stage.label for stage in self.all if not stage.is_image]


def prefix(stage: Stage, platform: Platform | None, *, shows_name: bool) -> str:
    """Take the next number of a stage and give the bracketed start of a step's name.

    `platform` is shown if there is one, the stage's name if `shows_name`.
    """
    if stage.step_total == 0:
        return ""
    stage.step_number += 1
    parts = []
    if platform is not None:
        parts.append(_platform_text(platform, stage.environment))
    if shows_name:
        parts.append(stage.label)
    total = str(stage.step_total)
    number = str(stage.step_number).rjust(len(total))
    return f"[{' '.join((*parts, f'{number}/{total}'))}] "


def _platform_text(platform: Platform, environment: Environment) -> str:
    """Give the stage's platform, and what it builds for where that is declared and differs."""
    text = platform.format_all()
    target = _declared_target(platform, environment)
    if (target.os, target.architecture) == (platform.os, platform.architecture):
        return text
    tail = "/".join(part for part in (target.architecture, target.variant) if part)
    return f"{text}->{tail}" if target.os == platform.os else f"{text}->{target.format_all()}"


def _declared_target(platform: Platform, environment: Environment) -> Platform:
    if "TARGETPLATFORM" in environment:
        try:
            return parse_platform(environment["TARGETPLATFORM"]).normalized()
        except InvalidPlatformError:
            pass
    return Platform(
        os=environment.get("TARGETOS") or platform.os,
        architecture=environment.get("TARGETARCH") or platform.architecture,
        variant=environment.get("TARGETVARIANT") or platform.variant,
    ).normalized()
