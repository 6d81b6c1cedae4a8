"""Named contexts: options `context:NAME=...` that stand for stages and images.

Spec: conversion reference, section 5.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torana.core.errors import BuildFileError
from torana.core.llb.state import State, from_definition, image, local, oci_layout, scratch
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.image import compact_json, parse_config
from torana.core.oci.platform import Platform, host_platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.ignorefile import InvalidIgnoreFileError, parse_ignore_file
from torana.frontends.kit.results import CONFIG_KEY
from torana.frontends.kit.sources import git_state, http_context

if TYPE_CHECKING:
    from torana.frontends.kit.context import BuildContext


class NamedContextError(BuildFileError):
    """A named context cannot be used."""

    code = "NAMED_CONTEXT"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedContext:
    """What an option says for a name; `config` is an image config as JSON, if it has one."""

    name: str  # with `::PLATFORM` if that form matched
    config: bytes | None = None
    fixed: State | None = None
    local_name: str = ""
    session_id: str = ""
    exclude: tuple[str, ...] = ()
    shared_key: str = ""

    def state(self, follow_paths: Sequence[str] = ()) -> State:
        """Give the tree, for a folder of the client limited to `follow_paths` (empty: all)."""
        if self.fixed is not None:
            return self.fixed
        return local(
            self.local_name,
            session_id=self.session_id,
            exclude=self.exclude,
            follow_paths=follow_paths,
            shared_key_hint=f"context:{self.name}-{self.shared_key}",
            custom_name=f"[context {self.name}] load from client",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSpecifier:
    """An option `context:NAME=...` that stands for a stage or an image; nothing is loaded yet."""

    name: str  # familiar form, without `:latest`
    full: str  # the same with `::PLATFORM` if that form matched
    value: str
    platform: Platform | None = None


def find_specifier(
    options: Mapping[str, str], text: str, platform: Platform | None
) -> ContextSpecifier | None:
    """Give what the options say for a stage or image name, None if nothing.

    Raises:
        NamedContextError: `text` cannot be the name of a context.
    """
    try:
        name = parse_reference(text).familiar().removesuffix(":latest")
    except InvalidReferenceError as err:
        raise NamedContextError(f"invalid context name {text}: {err.message}") from err
    shown = (platform or host_platform()).normalized().format_all()
    for full in (f"{name}::{shown}", name):
        value = options.get(f"context:{full}")
        if value is not None:
            return ContextSpecifier(name=name, full=full, value=value, platform=platform)
    return None


async def load_named(context: BuildContext, specifier: ContextSpecifier) -> NamedContext:
    """Load what a specifier names.

    Raises:
        NamedContextError: it cannot be understood.
    """
    name, full, value = specifier.name, specifier.full, specifier.value
    kind, colon, rest = value.partition(":")
    if not colon:
        raise NamedContextError(f"invalid context specifier {value} for {full}")
    if kind.startswith("git@"):
        kind = "git"
    match kind:
        case "docker-image":
            return await _image(context, full, rest.removeprefix("//"), specifier.platform)
        case "git":
            return _git(full, value)
        case "http" | "https":
            if parse_git_ref(value) is not None:
                return _git(full, value)
            state = http_context(value, f"[context {full}] {value}")
            return NamedContext(name=full, fixed=state)
        case "oci-layout":
            return await _layout(context, name, full, rest.removeprefix("//"), specifier.platform)
        case "local":
            return await _folder(context, full, rest)
        case "input":
            return await _input(context, full, rest)
    raise NamedContextError(f"unsupported context source {kind} for {full}")


async def _image(
    context: BuildContext, full: str, text: str, platform: Platform | None
) -> NamedContext:
    if text == "scratch":
        return NamedContext(name=full, fixed=scratch())
    reference = str(parse_reference(text).with_default_tag())
    found = await context.resolve_image(
        reference, platform, log_name=f"[context {full}] load metadata for {text}"
    )
    state = image(found.ref, platform=platform, custom_name=f"[context {full}] {text}")
    return NamedContext(name=full, config=_without_created(found.config), fixed=state)


def _without_created(config: bytes) -> bytes:
    """Drop the time of an image, which would make equal builds differ."""
    return compact_json({k: v for k, v in parse_config(config).items() if k != "created"})


def _git(full: str, url: str) -> NamedContext:
    ref = parse_git_ref(url)
    if ref is None:
        raise NamedContextError(f"invalid git context {url}")
    state = git_state(ref, name=f"[internal] load git source {url}")
    return NamedContext(name=full, fixed=state)


async def _layout(
    context: BuildContext, name: str, full: str, text: str, platform: Platform | None
) -> NamedContext:
    store, digest = _store(text)
    reference = str(parse_reference(name).with_digest(digest))
    session = context.client.session_id
    found = await context.client.resolve_source(
        f"oci-layout://{reference}",
        {"oci.session": session, "oci.store": store},
        platform=platform,
        log_name=f"[context {full}] load metadata for {reference}",
    )
    state = oci_layout(
        reference,
        session_id=session,
        store_id=store,
        platform=platform,
        custom_name=f"[context {full}] OCI load from client",
    )
    config = None if found.image is None else found.image.config
    return NamedContext(name=full, config=config, fixed=state)


def _store(text: str) -> tuple[str, Digest]:
    """Read `STORE[:TAG]@DIGEST`; the store may have any name that an image could have."""
    named, at, digest = text.partition("@")
    slash = named.rfind("/")
    store = named[: slash + 1] + named[slash + 1 :].partition(":")[0]
    try:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/:-]*", named):
            raise InvalidDigestError("invalid reference format")
        if not at:
            raise NamedContextError(f'oci-layout reference "{text}" has no digest')
        return store, Digest.parse(digest)
    except InvalidDigestError as err:
        raise NamedContextError(
            f'could not parse oci-layout reference "{text}": {err.message}'
        ) from err


async def _folder(context: BuildContext, full: str, folder: str) -> NamedContext:
    session = context.session_of(folder)
    load = local(
        folder,
        session_id=session,
        follow_paths=(".dockerignore",),
        shared_key_hint=f"context:{full}-.dockerignore",
        differ_none=True,
        custom_name=f"[context {full}] load .dockerignore",
    )
    reference = await context.solve(load, evaluate=True)
    data = await context.read_optional(reference, ".dockerignore")
    return NamedContext(
        name=full,
        local_name=folder,
        session_id=session,
        exclude=_patterns(data),
        shared_key=context.client.options.get(f"sharedkey:localdir:{full}", ""),
    )


def _patterns(data: bytes | None) -> tuple[str, ...]:
    try:
        return () if data is None else parse_ignore_file(data)
    except InvalidIgnoreFileError as err:
        raise InvalidIgnoreFileError(f"failed parsing .dockerignore: {err.message}") from err


async def _input(context: BuildContext, full: str, text: str) -> NamedContext:
    definition = (await context.inputs()).get(text)
    if definition is None:
        raise NamedContextError(f"invalid input {text} for {full}")
    metadata: Mapping[str, str] = {}
    if raw := context.client.options.get(f"input-metadata:{text}"):
        try:
            metadata = json.loads(raw)
            config = base64.b64decode(metadata[CONFIG_KEY]) if CONFIG_KEY in metadata else None
        except (ValueError, TypeError) as err:
            raise NamedContextError(f"failed to parse input metadata {raw}: {err}") from err
    else:
        config = None
    return NamedContext(name=full, config=config, fixed=from_definition(definition))
