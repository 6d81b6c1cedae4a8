"""`Resolver`: trees that come from outside, looked up: images, named contexts, the main context.

The only part of a conversion that asks the engine anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Final

from torana.core.errors import NotFoundError, ToranaError
from torana.core.llb.state import State, image, scratch
from torana.core.llb.vertices import SourceLocation
from torana.core.oci.image import parse_config
from torana.core.oci.platform import Platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.named import NamedContext
from torana.frontends.kit.sources import git_state
from torana.frontends.kit.suggest import suggest
from torana.frontends.kit.yamltree import Mark
from torana.frontends.yaml.document import ContextDeclaration
from torana.frontends.yaml.model import Origin, OriginKind

_LOCKED: Final = "build.lock"


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree from outside; `config` and `raw_config` are those of an image, if it is one."""

    origin: Origin
    platform: Platform
    reference: str = ""  # of an image, with its digest
    resolve_mode: str = "default"
    named: NamedContext | None = None
    fixed: State | None = None
    config: Mapping[str, Any] | None = None
    raw_config: bytes | None = None

    def state(self, used: Sequence[str], location: tuple[SourceLocation, ...], name: str) -> State:
        """Give the tree; of a folder of the client only the `used` paths (none: all)."""
        if self.named is not None:
            return self.named.state(used)
        if self.fixed is not None:
            return self.fixed
        if not self.reference:
            return scratch()
        return image(
            self.reference,
            resolve_mode=self.resolve_mode,
            platform=self.platform,
            custom_name=name,
            location=location,
        )


@dataclass(slots=True, kw_only=True)
class Resolver:
    """Looks trees up, each once.

    `locked` are digests by reference; with `is_locked` nothing else may be used. What was looked
    up is in `pins`.
    """

    context: BuildContext
    contexts: Mapping[str, ContextDeclaration]
    stages: Iterable[str]
    locked: Mapping[str, str] = field(default_factory=dict)
    is_locked: bool = False
    pins: dict[str, str] = field(default_factory=dict)
    trees: dict[tuple[Origin, Platform], Tree] = field(default_factory=dict)

    async def resolve(self, wanted: Mapping[tuple[Origin, Platform], Mark]) -> None:
        """Look up all that is not known yet, at the same time.

        Raises:
            ToranaError: something cannot be found; located. The first in the order of the file.
        """
        missing = {key: mark for key, mark in wanted.items() if key not in self.trees}
        found = await asyncio.gather(
            *(self._find(*key, mark) for key, mark in missing.items()), return_exceptions=True
        )
        for key, tree in zip(missing, found, strict=True):
            if isinstance(tree, BaseException):
                raise tree
            self.trees[key] = tree

    async def _find(self, origin: Origin, platform: Platform, mark: Mark) -> Tree:
        try:
            match origin.kind:
                case OriginKind.IMAGE:
                    return await self._image(origin, platform, mark)
                case OriginKind.NAMED:
                    return await self._named(origin, platform, mark)
            return Tree(origin, platform)
        except ToranaError as err:
            if not err.sources:
                err.sources = (mark.file.excerpt((mark.range,)),)
            raise

    async def _image(self, origin: Origin, platform: Platform, mark: Mark) -> Tree:
        try:
            reference = parse_reference(origin.name).with_default_tag()
        except InvalidReferenceError as err:
            raise mark.error(f"neither a stage nor an image: `{origin.name}`") from err
        if (found := self.context.find_named(str(reference), platform)) is not None:
            return self._tree(origin, platform, await self.context.load_named(found))
        key = str(reference)
        text = f"{key.partition('@')[0]}@{origin.digest}" if origin.digest else key
        if reference.digest is None and not origin.digest:
            if pin := self.locked.get(key):
                text = f"{key}@{pin}"
            elif self.is_locked:
                raise mark.error(f"not in {_LOCKED}: `{origin.name}`", hint="`torana lock` adds it")
        try:
            resolved = await self.context.resolve_image(
                text, platform, log_name=f"[internal] load metadata for {text}"
            )
        except NotFoundError as err:
            near = suggest(origin.name, self.stages)
            raise mark.error(
                f"neither a stage nor an image that can be found: `{origin.name}`: {err.message}",
                hint=f"did you mean stage `{near}`?" if near else err.hint,
            ) from err
        pinned = parse_reference(text)
        if resolved.digest and pinned.digest is None:
            self.pins[key] = str(resolved.digest)
            pinned = pinned.with_digest(resolved.digest)
        elif pinned.digest is not None and reference.digest is None and not origin.digest:
            self.pins[key] = str(pinned.digest)
        config = parse_config(resolved.config)
        config.pop("created", None)
        return Tree(
            origin,
            platform,
            reference=str(pinned) if not _is_hollow(config) else "",
            resolve_mode=self.context.options.resolve_mode,
            config=config,
            raw_config=resolved.config,
        )

    async def _named(self, origin: Origin, platform: Platform, mark: Mark) -> Tree:
        found = self.context.find_named(origin.name, platform)
        if found is not None:
            return self._tree(origin, platform, await self.context.load_named(found))
        declared = self.contexts.get(origin.name)
        if declared is not None and declared.image:
            return await self._image(Origin(OriginKind.IMAGE, declared.image), platform, mark)
        if declared is not None and declared.git:
            ref = parse_git_ref(declared.git)
            if ref is None:
                raise mark.error(f"not the address of a git repository: `{declared.git}`")
            from dataclasses import replace

            ref = replace(ref, ref=declared.ref or declared.commit or ref.ref)
            state = git_state(
                ref, name=f"[context {origin.name}] {declared.git}", checksum=declared.commit
            )
            return Tree(origin, platform, fixed=state)
        raise mark.error(
            f"context `{origin.name}` was not given",
            hint=f"give it with `--build-context {origin.name}=FOLDER`",
        )

    def _tree(self, origin: Origin, platform: Platform, named: NamedContext) -> Tree:
        config = None if named.config is None else parse_config(named.config)
        return Tree(origin, platform, named=named, config=config, raw_config=named.config)


def _is_hollow(config: Mapping[str, Any]) -> bool:
    """Say whether an image has no layers: a config and nothing else."""
    layers = (config.get("rootfs") or {}).get("diff_ids")
    return not layers and all(each.get("empty_layer") for each in config.get("history") or ())
