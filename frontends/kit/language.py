"""`TextFrontend`: a frontend for a language: what it parses and lowers; the rest is done here.

Reading the build file, options, targets, platforms, the image config, places of errors, warnings
and subrequests are the same for every language.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Final, Generic, TypeVar

from torana.core.errors import Position, SourceRange, ToranaError, UserError
from torana.core.llb.places import located_at
from torana.core.llb.state import State
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass
from torana.frontends.kit.answers import (
    LOCK,
    OutlineEntries,
    OutlineEntry,
    TargetEntry,
    convert_answer,
    lint_answer,
    lock_answer,
    outline_answer,
    requests_answer,
    targets_answer,
)
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.epoch import rfc3339
from torana.frontends.kit.findings import given_lint_config, lint_config, send_findings
from torana.frontends.kit.forward import forward, required_caps, wanted_syntax
from torana.frontends.kit.image import Image
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.lint import Linter, Rule
from torana.frontends.kit.lock import Lock, Pins, is_update, read_lock
from torana.frontends.kit.lowering import LowerContext, Target
from torana.frontends.kit.options import parse_options
from torana.frontends.kit.results import PlatformResult, assemble
from torana.frontends.kit.subrequests import DESCRIBE, UnsupportedRequestError
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.tree import Place, latest_place
from torana.frontends.kit.typedoptions import declaration_of, misspelt, read_options, specs_of
from torana.gateway.client.client import Attestation, Client, Result

T = TypeVar("T")
Lowered = Image | State

_UNKNOWN: Final = Rule("UnknownOption", "Options should be those of the frontend")
_KIND: Final = "dockerfile"  # the folder and input in which clients offer the build file


class NoSuchTargetError(UserError):
    """The file has no target of the name that was asked for."""

    code = "TARGET_MISSING"


class TextFrontend(ABC, Generic[T]):
    """A frontend whose build file is parsed to a `T`, and lowered.

    Subclasses set the class variables and write `parse` and `lower`; one object serves any number
    of builds at the same time, so nothing of a build is kept on `self`.
    """

    name: ClassVar[str]
    filename: ClassVar[str]  # of the build file, unless the user names one
    language: ClassVar[str] = ""  # for messages; empty: the name
    options: ClassVar[type[Any] | Mapping[str, Any] | str | None] = None  # see `typedoptions`
    rules: ClassVar[Sequence[Rule]] = ()

    @abstractmethod
    def parse(self, text: str, whole: Place) -> T:
        """Read a file; `whole` is the place of all of it.

        Raises:
            BuildFileError: the file is wrong.
        """

    @abstractmethod
    def lower(self, tree: T, context: LowerContext) -> Lowered | Awaitable[Lowered]:
        """Give the image of `context.target` for `context.platform`; may be a coroutine.

        Raises:
            BuildFileError: the file makes no sense.
        """

    def targets(self, tree: T) -> Sequence[Target]:
        """Give what can be built, in the order of the file; none: the file is one whole."""
        return ()

    async def build(self, client: Client) -> Result:
        """Build the file that the options name, or answer a question about it."""
        options = parse_options(client.options)
        given_lint_config(options.build_args)
        late_caps = required_caps(client.options)
        with located_at(()):
            context = await BuildContext.open(
                client,
                filename=self.filename,
                language=self.language or self.name,
                kind=_KIND,
                options=options,
            )
        late_caps.check()
        handed = await self._forwarded(context)
        if handed is not None:
            return handed
        return await _Translation(self, context).result()

    async def _forwarded(self, context: BuildContext) -> Result | None:
        """Hand the build on if the file names another frontend."""
        wanted = wanted_syntax(context.options.build_args, context.file)
        if wanted is None or wanted.image.partition("==")[0] == self.name:
            return None
        return await forward(context)


@dataclass(slots=True)
class _Translation(Generic[T]):
    """One build."""

    frontend: TextFrontend[T]
    context: BuildContext
    pins: Pins = field(default_factory=Pins)

    async def result(self) -> Result:
        lock = await read_lock(self.context)
        self.pins = Pins(lock)
        match self.context.client.options.get("requestid"):
            case None:
                return await self._build()
            case name if name == DESCRIBE:
                return requests_answer(
                    outline="List all parameters current build target supports",
                    targets="List all targets current build supports",
                    others={
                        "frontend.lint": "Check the build file for doubtful things",
                        LOCK: "Pin images and includes",
                    },
                )
            case "frontend.targets":
                return self._targets()
            case "frontend.outline":
                return self._outline()
            case "frontend.convertllb":
                return await self._convert()
            case "frontend.lint":
                return await self._lint()
            case "frontend.lock":
                return await self._lock(lock)
            case str() as name:
                raise UnsupportedRequestError(name)

    async def _build(self) -> Result:
        tree = self._tree()
        target = self._target(tree)
        self._check_options()
        linter = Linter(lint_config(self.context))
        for name, near in misspelt(declaration_of(self.frontend), self.context.client.options):
            linter.report(_UNKNOWN, f"there is no option `{name}`: did you mean `{near}`?")
        results = []
        for platform in self.context.options.platforms or (None,):
            try:
                results.append(await self._on(platform, tree, target, linter))
            finally:
                if linter.is_active:
                    await send_findings(self.context, linter.findings)
            linter.check()
            linter.is_active = False  # the others find the same
        return assemble(results, multi_platform=self.context.options.multi_platform)

    async def _on(
        self, platform: Platform | None, tree: T, target: Target | None, linter: Linter
    ) -> PlatformResult:
        asked = platform or self.context.build_platform
        image = await self._lowered(asked, tree, target, linter)
        config = image.config.copy()
        config.set_platform(asked)
        epoch = await self.context.epoch()
        created = "" if epoch is None else rfc3339(epoch)
        config.diff_ids, config.history, config.created = None, [], created
        if labels := self.context.options.labels:
            config.config["Labels"] = {**(config.config.get("Labels") or {}), **labels}
        definition = self.context.marshal(image.state, asked)
        key = (platform or host_platform()).format_all()
        return PlatformResult(
            id=key,
            platform=asked,
            ref=await self.context.solve_result(definition),
            config=config.to_json(),
            base_config=image.base_config,
            epoch=epoch,
            attestations=await self._attestations(image, key),
        )

    async def _attestations(self, image: Image, key: str) -> Sequence[Attestation]:
        if self.context.options.sbom is None:
            return ()
        from torana.frontends.kit.scan import Scan, Scanner

        scanner = await Scanner.find(self.context, self.context.options.sbom)
        scan = Scan(image.state, ignore_cache=image.settings.ignore_cache)
        with located_at(()):
            return (await scanner.attest(self.context, scan, key),)

    async def _lowered(
        self, platform: Platform, tree: T, target: Target | None, linter: Linter
    ) -> Image:
        whole = self._whole()
        context = LowerContext(
            build=self.context,
            whole=whole,
            platform=platform,
            target=target,
            linter=linter,
            parser=self.frontend.parse,
            declared=declaration_of(self.frontend),
            epoch=await self.context.epoch(),
            pins=self.pins,
        )
        with located_at(whole.location()):
            try:
                made = self.frontend.lower(tree, context)
                lowered = await made if inspect.isawaitable(made) else made
            except ToranaError as err:
                (latest_place() or whole).attach(err)
                raise
            except RecursionError as err:
                raise (latest_place() or whole).error("nested too deeply") from err
        if isinstance(lowered, State):
            return Image(lowered, ImageConfig.empty(platform))
        if not isinstance(lowered, Image):
            raise _wrong_result(lowered)
        return lowered

    def _targets(self) -> Result:
        targets = self.frontend.targets(self._tree())
        default = _default(targets)
        entries = [
            TargetEntry(
                name=target.name,
                ranges=(target.place.range,),
                is_default=target is default,
                description=target.description,
            )
            for target in targets
        ]
        return targets_answer(self.context.file, entries)

    def _outline(self) -> Result:
        target = self._target(self._tree())
        given = self.context.options.build_args
        args = [
            OutlineEntry(
                name=spec.build_arg,
                description=spec.help,
                value=given.get(spec.build_arg, spec.shown_default),
            )
            for spec in specs_of(declaration_of(self.frontend))
        ]
        if target is None:
            return outline_answer(self.context.file, OutlineEntries(args=args))
        outline = OutlineEntries(name=target.name, description=target.description, args=args)
        return outline_answer(self.context.file, outline)

    async def _convert(self) -> Result:
        """Give the LLB of the target on the first platform."""
        tree = self._tree()
        target = self._target(tree)
        self._check_options()
        asked = next(iter(self.context.options.platforms), self.context.build_platform)
        image = await self._lowered(asked, tree, target, Linter(is_active=False))
        return convert_answer(self.context.file, self.context.marshal(image.state, asked))

    async def _lint(self) -> Result:
        linter = Linter(lint_config(self.context))
        failure: ToranaError | None = None
        try:
            tree = self._tree()
            given = self._target(tree)
            targets = self.frontend.targets(tree)
            wanted: Sequence[Target | None] = targets or (None,)
            if self.context.options.target:
                wanted = (given,)
            for target in wanted:
                await self._lowered(self.context.build_platform, tree, target, linter)
        except ToranaError as err:
            failure = err
        return lint_answer(self.context.file, list(dict.fromkeys(linter.findings)), failure)

    async def _lock(self, present: Lock) -> Result:
        """Give the lock file: what is pinned stays, unless an update is asked for."""
        self.pins = Pins(Lock() if is_update(self.context) else Lock(images=present.images))
        tree = self._tree()
        for platform in self.context.options.platforms or (self.context.build_platform,):
            for target in self.frontend.targets(tree) or (None,):
                await self._lowered(platform, tree, target, Linter(is_active=False))
        return lock_answer(self.context.file, self.pins.found())

    def _tree(self) -> T:
        data = self.context.file.data
        whole = self._whole()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as err:
            line = data.count(b"\n", 0, err.start) + 1
            filename = self.context.file.filename
            span = SourceRange(filename, Position(line), Position(line))
            raise Place(whole.file, whole.info, span).error("not UTF-8") from err
        # Line ends are those of Unix for all languages; columns are the same.
        return self.frontend.parse(text.replace("\r\n", "\n"), whole)

    def _whole(self) -> Place:
        file = self.context.file
        lines = max(1, len(file.data.splitlines()))
        return Place(file, self.context.info, SourceRange.lines(file.filename, 1, lines))

    def _target(self, tree: T) -> Target | None:
        targets = self.frontend.targets(tree)
        name = self.context.options.target
        if not name:
            return _default(targets)
        found = next((target for target in targets if target.name == name), None)
        if found is None:
            names = [target.name for target in targets]
            near = suggest(name, names)
            known = ", ".join(f"`{each}`" for each in names) or "none"
            hint = f"targets: {known}" if near is None else f"did you mean `{near}`?"
            raise NoSuchTargetError(f"no such target: `{name}`", hint=hint)
        return found

    def _check_options(self) -> None:
        """Refuse wrong options, also of a frontend that would not look at them."""
        declared = declaration_of(self.frontend)
        if declared is not None:
            read_options(declared, self.context.client.options)


def _default(targets: Sequence[Target]) -> Target | None:
    marked = next((target for target in targets if target.is_default), None)
    return marked or (targets[-1] if targets else None)


def _wrong_result(made: object) -> TypeError:
    """Tell an author what `lower` should have given."""
    if inspect.isawaitable(made):
        return TypeError(f"`lower` gave a `{type(made).__name__}`: is there an `await` missing?")
    what = "nothing" if made is None else f"a `{type(made).__name__}`"
    return TypeError(f"`lower` gave {what}: it returns an `Image` or a `State`")
