"""`Evaluation`: runs a stage's instructions on paper.

Words are expanded, the image config and its history grow, and what touches the file tree becomes a
list of actions. Nothing is read or sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from torana.core.errors import BuildFileError, SourceRange
from torana.core.oci.platform import Platform
from torana.core.patterns import PatternMatcher
from torana.core.records import dataclass
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.actions import Action, Step, UsedPaths
from torana.frontends.dockerfile.arguments import SBOM_ARGS
from torana.frontends.dockerfile.expansion import Expander, Expansion, ExpansionError
from torana.frontends.dockerfile.instructions import KeyValue
from torana.frontends.dockerfile.outline import OutlineArg, description
from torana.frontends.dockerfile.stage import PlannedStep, Stage, Stages, prefix
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.lint import Linter, Rule
from torana.frontends.kit.options import BuildOptions
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.values import parse_bool

_SHELL: Final = ("/bin/sh", "-c")
_WINDOWS_SHELL: Final = ("cmd", "/S", "/C")


@dataclass(slots=True, kw_only=True)
class Settings:
    """What all stages of a conversion share."""

    options: BuildOptions
    file: SourceFile
    stages: Stages
    linter: Linter
    expander: Expander
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]  # declared and predefined ones that have a value
    caps: frozenset[str]
    epoch: int | None = None  # seconds
    created: str = ""  # the same as RFC 3339 text
    shows_platform: bool = False
    used: UsedPaths = field(default_factory=UsedPaths)  # of the main context
    ignore_patterns: tuple[str, ...] = ()  # of a local main context
    ignored: PatternMatcher | None = None  # None where nothing can be said: `!` patterns


@dataclass(slots=True)
class Evaluation:
    """The evaluation of one stage; `step` is the instruction at hand."""

    settings: Settings
    stage: Stage
    step: PlannedStep
    has_cmd: bool = False
    last_of_kind: dict[type[Any], PlannedStep] = field(default_factory=dict)

    @property
    def image(self) -> ImageConfig:
        return self.stage.current_image

    @property
    def shell(self) -> Sequence[str]:
        """The command that runs shell forms."""
        default = _WINDOWS_SHELL if self.image.platform.os == "windows" else _SHELL
        shell: Sequence[str] | None = self.image.config.get("Shell")
        return shell or default

    def expand(self, text: str) -> str:
        """Expand one word in the stage's environment; unknown names are reported."""
        if not self.settings.expander.is_active_in(text):
            return text
        return self._reported(self.settings.expander.expand, text)

    def expand_words(self, text: str) -> Sequence[str]:
        """Expand and split; unknown names are not reported."""
        return self.settings.expander.expand(text, self.stage.environment).words

    def expand_body(self, text: str) -> str:
        """Expand the body of a heredoc: quotes are ordinary there."""
        return self._reported(self.settings.expander.expand_body, text)

    def _reported(self, expand: Callable[[str, Mapping[str, str]], Expansion], text: str) -> str:
        try:
            found = expand(text, self.stage.environment)
        except ExpansionError as err:
            self._report_unmatched(err.unmatched)
            raise
        self._report_unmatched(found.unmatched)
        return found.text

    def pairs(self, pairs: Iterable[KeyValue]) -> list[tuple[str, str]]:
        """Expand the pairs of ENV or LABEL, all in the environment before the instruction."""
        return [(self.expand(pair.key), self.expand(pair.value)) for pair in pairs]

    def _report_unmatched(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.stage.args or name in SBOM_ARGS:
                continue
            near = suggest(name, self.stage.environment)
            hint = f" (did you mean ${near}?)" if near else ""
            self.report(lint.UNDEFINED_VAR, f"Usage of undefined variable '${name}'{hint}")

    def argument(self, name: str, default: str | None) -> str | None:
        """Give the value that `ARG name[=default]` gets here; None for none."""
        settings = self.settings
        is_inherited = False
        if name in settings.build_args:
            value: str | None = settings.build_args[name]
        elif default is not None:
            value = self.expand(default)
        else:
            value = settings.global_args.get(name)
            is_inherited = value is not None
        outline = self.stage.outline
        outline.reads[name] = None
        if not is_inherited:
            about = description(name, self.step.instruction.comments)
            outline.args[name] = OutlineArg(
                name=name, ranges=self.step.ranges, description=about, value=value
            )
        return value

    def note_scan(self, name: str, value: str | None) -> None:
        """Remember whether this stage or its context goes into the SBOM."""
        note_scan(self.stage, name, value)

    def report(self, rule: Rule, message: str, ranges: Sequence[SourceRange] | None = None) -> None:
        """Report a finding at the instruction at hand, or at `ranges`."""
        where = self.step.ranges if ranges is None else ranges
        self.settings.linter.report(rule, message, where, self.step.instruction.comments)

    def history(self, text: str, *, layer: bool = False) -> None:
        self.image.add_history(text, layer=layer, created=self.settings.created)

    def act(self, action: Action) -> None:
        self.stage.actions.append(action)

    def describe(self, name: str, platform: Platform | None, *, ignores_cache: bool = True) -> Step:
        """Give the visible side of a step called `name`; takes the next step number."""
        settings = self.settings
        shown = platform if settings.shows_platform else None
        start = prefix(self.stage, shown, shows_name=settings.stages.shows_names)
        word, blank, rest = name.partition(" ")
        trigger = "ONBUILD " if self.step.is_trigger else ""
        return Step(
            name=f"{start}{trigger}{word.upper()}{blank}{rest}",
            ranges=self.step.ranges,
            command=self.step.instruction.original,
            ignore_cache=ignores_cache and settings.options.ignores_cache(self.stage.name),
        )

    def expanded_name(self) -> str:
        """Give the instruction's text for display; as it is if it cannot be expanded."""
        text = self.step.instruction.original
        try:
            return self.settings.expander.expand(text, self.stage.environment).text
        except BuildFileError:
            return text


def note_scan(stage: Stage, name: str, value: str | None) -> None:
    """Remember what an SBOM argument says: a boolean, or a list of stage names."""
    if value is None:
        return
    wanted = parse_bool(value)
    if wanted is None:
        wanted = stage.label in value.split(",")
    if name.endswith("_STAGE"):
        stage.scans = wanted
    else:
        stage.scans_context = wanted


def note_global_scans(settings: Settings, stage: Stage) -> None:
    """Start a stage with what the global SBOM arguments say."""
    for name in SBOM_ARGS:
        note_scan(stage, name, settings.global_args.get(name))
