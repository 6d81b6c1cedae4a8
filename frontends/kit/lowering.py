"""`LowerContext`: what `lower` works with: one target of one file on one platform."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from torana.core.errors import SourceRange
from torana.core.llb.definition import Definition
from torana.core.llb.ops import NetMode
from torana.core.llb.state import State, from_definition, http, image
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.image import Image
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.lint import Linter, Rule
from torana.frontends.kit.lock import Pins
from torana.frontends.kit.results import BASE_CONFIG_KEY, CONFIG_KEY
from torana.frontends.kit.stepsettings import StepSettings
from torana.frontends.kit.tree import Place, Tree, latest_place, on_behalf_of
from torana.frontends.kit.typedoptions import Declaration, read_options, specs_of

if TYPE_CHECKING:
    from torana.frontends.kit.included import IncludedFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that a file can be built into; the last one is the default unless one says so."""

    name: str
    place: Place
    description: str = ""
    is_default: bool = False


class Parser(Protocol):
    """Reads a text of the language at hand."""

    def __call__(self, text: str, whole: Place) -> Any: ...


@dataclass(slots=True, kw_only=True)
class LowerContext:
    """One target on one platform. `build` has the whole build's inputs and options."""

    build: BuildContext
    whole: Place  # all of the build file
    platform: Platform
    target: Target | None = None
    linter: Linter = field(default_factory=Linter)
    parser: Parser | None = None
    declared: Declaration = None  # the frontend's options
    pins: Pins = field(default_factory=Pins)  # what the lock file says, and what was found
    epoch: int | None = None  # SOURCE_DATE_EPOCH, in seconds: the time of the image

    # What was asked for.

    @overload
    def options(self, declared: type[T]) -> T: ...
    @overload
    def options(self) -> Mapping[str, Any]: ...
    def options(self, declared: type[Any] | None = None) -> Any:
        """Read the frontend's own options.

        With the dataclass that declares them, an object of it; without, values by name as users
        write it, those without a default only if given.

        Raises:
            InvalidOptionError: a value is not as declared, or a required one is missing.
        """
        given = self.build.client.options
        if declared is not None:
            return read_options(declared, given)
        if isinstance(self.declared, type):
            found = read_options(self.declared, given)
            return {spec.name: getattr(found, spec.field) for spec in specs_of(self.declared)}
        return {} if self.declared is None else read_options(self.declared, given)

    @property
    def arguments(self) -> Mapping[str, str]:
        """Build arguments, as given."""
        return self.build.options.build_args

    @property
    def is_native(self) -> bool:
        """Whether steps run on the build machine's own platform."""
        return self.platform == self.build.build_platform

    # Trees to begin with.

    def scratch(self) -> Image:
        return self._configured(Image.scratch(self.platform))

    def _configured(self, image: Image) -> Image:
        """Have steps run as the options of the build say: network, hosts, limits, cache."""
        options, state = self.build.options, image.state
        if options.network is not NetMode.UNSET:
            state = state.network(options.network)
        if options.hostname:
            state = state.hostname(options.hostname)
        if options.cgroup_parent:
            state = state.cgroup_parent(options.cgroup_parent)
        for host in options.extra_hosts:
            state = state.add_extra_host(host.host, host.ip)
        for limit in options.ulimits:
            state = state.add_ulimit(limit.name, limit.soft, limit.hard)
        return self.part_of(
            "" if self.target is None else self.target.name, replace(image, state=state)
        )

    def part_of(self, target: str, image: Image) -> Image:
        """Have further steps of an image belong to the target `target` of the file.

        Those of `context.target` do already. `--no-cache-filter` names targets, so one that is
        built on the way to another needs this.
        """
        caps = self.build.client.llb_caps
        settings = StepSettings.of(self.build.options, caps, self.epoch, target)
        return replace(image, settings=settings)

    async def image(self, reference: str, *, platform: Platform | None = None) -> Image:
        """Give a base image: `scratch`, a named context, or an image of a registry.

        Raises:
            ToranaError: the image cannot be found; says where it was asked for.
        """
        if reference == "scratch":
            return self.scratch()
        platform = platform or self.platform
        given = await self.build.named(reference, platform)
        if given is not None:
            config = ImageConfig.empty(platform)
            if given.config is not None:
                config = ImageConfig.parse(given.config)
            return self._configured(Image.of(given.state(), config))
        try:
            name = parse_reference(reference).with_default_tag()
        except InvalidReferenceError as err:
            raise InvalidReferenceError(f"not an image: `{reference}`") from err
        pin = self.pins.image(str(name)) if name.digest is None else None
        wanted = name if pin is None else name.with_digest(Digest.parse(pin))
        found = await self.build.resolve_image(
            str(wanted), platform, log_name=f"[internal] load metadata for {name}"
        )
        pinned = str(wanted.with_digest(found.digest) if found.digest else wanted)
        if name.digest is None and (found.digest or pin):
            self.pins.images[str(name)] = pin or str(found.digest)
        tree = image(pinned, platform=platform, custom_name=f"from {name}")
        made = self._configured(Image.of(tree, ImageConfig.parse(found.config)))
        return replace(made, base_config=found.config)

    async def context(self, *paths: str) -> State:
        """Give the build context, limited to `paths` (none: all); ignored files are left out."""
        follow = [path.strip("/") or "." for path in paths]
        return self.build.main_state(
            () if "." in follow else follow, await self.build.ignore_patterns()
        )

    async def named(self, name: str) -> Image | None:
        """Give what `--build-context NAME=...` stands for, None if it was not given."""
        if self.build.find_named(name, self.platform) is None:
            return None
        return await self.image(name)

    def download(self, url: str, *, filename: str, sha256: str = "", mode: int = 0o644) -> State:
        """Give a tree with the one file `filename`; many of them are fetched at the same time."""
        checksum = f"sha256:{sha256.removeprefix('sha256:')}" if sha256 else ""
        return http(
            url, filename=filename, checksum=checksum, mode=mode, custom_name=f"download {url}"
        )

    # Other files, other languages.

    async def include(self, address: str, at: Tree) -> Any:
        """Give the tree of another file; see `included` for what addresses there are.

        Raises:
            BuildFileError: it is missing, wrong, not pinned, or includes itself.
        """
        found = await self.read_included(address, at.place)
        assert self.parser is not None
        return self.parser(found.text, found.place)

    async def read_included(self, address: str, at: Place) -> IncludedFile:
        """Give the text of another file; see `include`."""
        from torana.frontends.kit.included import read_included

        return await read_included(self.build, address, at, self.pins)

    async def frontend(
        self,
        name: str,
        *,
        target: str = "",
        text: str | None = None,
        filename: str = "",
        inputs: Mapping[str, State | Image] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Image:
        """Build with another frontend, and go on with what it gives.

        Args:
            name: what a `# syntax=` line would name.
            target: the target of the other file.
            text: the other build file itself; without it `filename` is read beside this one.
            filename: the name of the other file.
            inputs: trees by name: `context` is its main context, others are named contexts, which
                `FROM name` and the like mean. Images come with their configs.
            options: more options.

        Raises:
            ToranaError: what the other frontend fails with.
        """
        from torana.frontends.kit.nested import build_nested

        trees = {
            key: self.definition(given.state if isinstance(given, Image) else given)
            for key, given in (inputs or {}).items()
        }
        opts = {**_named(inputs or {}), **(options or {}), "platform": self.platform.format_all()}
        opts |= {"filename": filename} if filename else {}
        opts |= {"target": target} if target else {}
        with on_behalf_of(latest_place() or self.whole):
            result = await build_nested(self.build, name, text=text, inputs=trees, options=opts)
        found = next(iter(result.refs.values()), result.ref)
        definition = None if found is None else await found.definition()
        config = next(
            (
                ImageConfig.parse(data)
                for key, data in result.metadata.items()
                if key.partition("/")[0] == CONFIG_KEY
            ),
            ImageConfig.empty(self.platform),
        )
        made = self._configured(Image.of(from_definition(definition or Definition()), config))
        base = result.metadata.get(BASE_CONFIG_KEY)
        return replace(made, base_config=base)

    def definition(self, state: State) -> Definition:
        """Give the definition of a tree for this platform and engine."""
        return self.build.marshal(state, self.platform)

    # What to tell.

    def warn(self, rule: Rule, message: str, at: Tree | Place | None = None) -> None:
        """Report what a lint rule found; the user gets it as a warning."""
        place = at.place if isinstance(at, Tree) else at
        ranges: Sequence[SourceRange] = () if place is None else (place.range,)
        self.linter.report(rule, message, ranges, file=None if place is None else place.file)


def _named(inputs: Mapping[str, State | Image]) -> dict[str, str]:
    """Give the options that make inputs named contexts."""
    opts = {}
    for name, given in inputs.items():
        if name != "context":
            opts[f"context:{name}"] = f"input:{name}"
        if isinstance(given, Image):
            config = base64.b64encode(given.config.to_json()).decode()
            opts[f"input-metadata:{name}"] = json.dumps({CONFIG_KEY: config})
    return opts
