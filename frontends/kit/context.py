"""`BuildContext`: the inputs of a build as a frontend sees them, and all that is read of them.

The one place of the kit that talks to the client: it finds the main context, loads the build file
and the ignore file, and resolves images and named contexts.

Spec: conversion reference, sections 4 and 5.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.llb.definition import Definition, SourceInfo
from torana.core.llb.state import State, copy, from_definition, local, scratch
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile, copied
from torana.frontends.kit.gitref import GitRef, parse_git_ref
from torana.frontends.kit.ignorefile import InvalidIgnoreFileError, parse_ignore_file
from torana.frontends.kit.named import (
    ContextSpecifier,
    NamedContext,
    find_specifier,
    load_named,
)
from torana.frontends.kit.options import BuildOptions, parse_options
from torana.frontends.kit.sources import git_state, http_context, is_archive
from torana.frontends.kit.values import parse_bool
from torana.gateway.client.client import Client, Reference, ResolvedImage, SolveRequest

if TYPE_CHECKING:
    from asyncio import Future

_CONTEXT: Final = "context"
_ARCHIVE_HEAD: Final = 1024  # bytes that tell an archive


class MissingBuildFileError(UserError):
    """There is no build file where one was looked for."""

    code = "BUILD_FILE_MISSING"


@dataclass(frozen=True, slots=True, kw_only=True)
class MainContext:
    """Where the build context comes from; `state` None: a folder of the client."""

    state: State | None = None
    file_state: State | None = None  # where the build file lies, None: a folder of the client
    filename: str = ""  # forced name of the build file
    git: GitRef | None = None


@dataclass(slots=True)
class BuildContext:
    """One build. Made by `open`, which reads options and loads the build file."""

    client: Client
    options: BuildOptions
    main: MainContext
    file: SourceFile
    info: SourceInfo
    file_reference: Reference
    _images: dict[tuple[str, Platform | None], Future[ResolvedImage]] = field(default_factory=dict)
    _ignore: tuple[str, ...] | None = None
    _epoch: tuple[int | None] | None = None  # None: not looked for yet

    @classmethod
    async def open(
        cls,
        client: Client,
        *,
        filename: str,
        language: str,
        kind: str,
        options: BuildOptions | None = None,
    ) -> BuildContext:
        """Load what a build needs to begin.

        Args:
            client: the engine.
            filename: name of the build file unless the options give one.
            language: its language, for messages.
            kind: name of the folder and the input that hold it, such as `dockerfile`.
            options: those of the client, where they were read already.

        Raises:
            InvalidOptionError: an option is malformed.
            MissingBuildFileError: no build file.
        """
        options = parse_options(client.options) if options is None else options
        main = await _find_main(client, options)
        name = main.filename or client.options.get("filename") or filename
        state = await _file_state(client, main, name, kind)
        request = SolveRequest(definition=_marshal(client, state))
        reference = (await client.solve(request)).ref
        data, name = await _read_build_file(reference, name, kind)
        file = SourceFile(
            filename=name, data=data, language=language, definition=request.definition
        )
        info = SourceInfo(name, data, language, request.definition)
        assert reference is not None
        return cls(client, options, main, file, info, reference)

    @property
    def build_platform(self) -> Platform:
        """The first platform of the first worker."""
        return self.build_platforms[0]

    @property
    def build_platforms(self) -> Sequence[Platform]:
        for worker in self.client.workers:
            if worker.platforms:
                return [platform.normalized() for platform in worker.platforms]
        return [host_platform()]

    def session_of(self, local_name: str) -> str:
        """Give the session that serves a local folder."""
        return session_of(self.client, local_name)

    async def inputs(self) -> Mapping[str, Definition]:
        return await self.client.inputs()

    def marshal(self, state: State, platform: Platform | None = None) -> Definition:
        """Give the definition of `state` for this engine."""
        return _marshal(self.client, state, platform)

    async def solve(self, state: State, *, evaluate: bool = False) -> Reference | None:
        """Solve something besides the results."""
        request = SolveRequest(definition=self.marshal(state), evaluate=evaluate)
        return (await self.client.solve(request)).ref

    async def solve_result(self, definition: Definition) -> Reference | None:
        """Solve a result, with the cache imports that were asked for."""
        request = SolveRequest(definition=definition, cache_imports=self.options.cache_imports)
        return (await self.client.solve(request)).ref

    async def read_optional(self, reference: Reference | None, path: str) -> bytes | None:
        """Read a file that need not be there."""
        if reference is None:
            return None
        try:
            return await reference.read_file(path)
        except ToranaError:
            return None

    async def resolve_image(
        self, reference: str, platform: Platform | None, *, log_name: str
    ) -> ResolvedImage:
        """Look up an image; each is asked for once a platform."""
        import asyncio

        key = (reference, platform)
        if key not in self._images:
            self._images[key] = asyncio.ensure_future(
                self.client.resolve_image(
                    reference,
                    platform=platform,
                    resolve_mode=self.options.resolve_mode,
                    log_name=log_name,
                )
            )
        try:
            return await asyncio.shield(self._images[key])
        except ToranaError as err:
            raise copied(err) from err.__cause__

    def find_named(self, name: str, platform: Platform | None) -> ContextSpecifier | None:
        """Give the option that stands for a stage or image; `load_named` loads it.

        Raises:
            NamedContextError: `name` cannot be the name of a context.
        """
        return find_specifier(self.client.options, name, platform)

    async def load_named(self, specifier: ContextSpecifier) -> NamedContext:
        """Load a named context.

        Raises:
            NamedContextError: its option cannot be understood.
        """
        return await load_named(self, specifier)

    async def named(self, name: str, platform: Platform | None) -> NamedContext | None:
        """Find and load the named context that stands for a stage or image, if one does."""
        found = self.find_named(name, platform)
        return None if found is None else await self.load_named(found)

    async def epoch(self) -> int | None:
        """Give SOURCE_DATE_EPOCH in seconds, if it was given and stands for a time; found once.

        Raises:
            InvalidEpochError: it is neither a number nor something with a time.
        """
        from torana.frontends.kit.epoch import EPOCH, resolve_epoch

        text = self.options.build_args.get(EPOCH, "")
        if text and self._epoch is None:
            self._epoch = (await resolve_epoch(text, self),)
        return self.known_epoch

    @property
    def known_epoch(self) -> int | None:
        """What `epoch` has found; None before it was asked."""
        return self._epoch[0] if self._epoch else None

    async def ignore_patterns(self) -> tuple[str, ...]:
        """Give what the ignore file of a local main context excludes; loaded once.

        Raises:
            InvalidIgnoreFileError: it is malformed.
        """
        if self._ignore is None:
            self._ignore = await self._load_ignore_file()
        return self._ignore

    async def _load_ignore_file(self) -> tuple[str, ...]:
        name = f"{self.file.filename}.dockerignore"
        data = await self.read_optional(self.file_reference, name)
        if self.main.state is not None:
            return ()
        if data is None:
            name = ".dockerignore"
            load = local(
                _CONTEXT,
                session_id=self.session_of(_CONTEXT),
                follow_paths=(name,),
                shared_key_hint=f"{_CONTEXT}-{name}",
                differ_none=True,
                custom_name="[internal] load .dockerignore",
            )
            data = await self.read_optional(await self.solve(load), name)
        try:
            return () if data is None else parse_ignore_file(data)
        except InvalidIgnoreFileError as err:
            raise InvalidIgnoreFileError(f"failed parsing {name}: {err.message}") from err

    def main_state(self, follow_paths: Sequence[str], exclude: Sequence[str]) -> State:
        """Give the main context, a local one limited to `follow_paths` (empty: all)."""
        if self.main.state is not None:
            return self.main.state
        return local(
            _CONTEXT,
            session_id=self.session_of(_CONTEXT),
            follow_paths=follow_paths,
            exclude=exclude,
            shared_key_hint=_CONTEXT,
            custom_name="[internal] load build context",
        )


def session_of(client: Client, local_name: str) -> str:
    """Give the session that serves a local folder."""
    return client.options.get(f"local-sessionid:{local_name}") or client.session_id


def _marshal(client: Client, state: State, platform: Platform | None = None) -> Definition:
    if platform is None:
        platforms = client.workers[0].platforms if client.workers else ()
        platform = platforms[0].normalized() if platforms else host_platform()
    return state.marshal(platform=platform, caps=client.llb_caps)


async def _find_main(client: Client, options: BuildOptions) -> MainContext:
    key = client.options.get("contextkey") or _CONTEXT
    text = client.options.get(key, "")
    if (ref := parse_git_ref(text)) is not None:
        keep = parse_bool(options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", ""))
        mtime = "commit" if options.build_args.get("SOURCE_DATE_EPOCH") else ""
        name = f"[internal] load git source {text}"
        state = git_state(ref, name=name, keep_git_dir=keep, mtime=mtime)
        return _scoped(client, MainContext(state=state, file_state=state, git=ref))
    if text.startswith(("http://", "https://")):
        return _scoped(client, await _download(client, text))
    definition = (await client.inputs()).get(_CONTEXT)
    if definition is not None:
        return _scoped(client, MainContext(state=from_definition(definition)))
    return MainContext()


async def _download(client: Client, url: str) -> MainContext:
    state = http_context(url)
    reference = (await client.solve(SolveRequest(definition=_marshal(client, state)))).ref
    assert reference is not None
    head = await reference.read_file(_CONTEXT, length=_ARCHIVE_HEAD)
    if not is_archive(head):
        return MainContext(state=state, file_state=state, filename=_CONTEXT)
    tree = scratch().file(copy(state, f"/{_CONTEXT}", "/", attempt_unpack=True))
    return MainContext(state=tree, file_state=tree)


def _scoped(client: Client, main: MainContext) -> MainContext:
    """Make a subdirectory the context; the build file stays where it is."""
    subdir = client.options.get("contextsubdir")
    if not subdir or main.state is None:
        return main
    from dataclasses import replace

    path = posixpath.normpath(f"/{subdir.lstrip('/')}")
    tree = scratch().file(copy(main.state, path, "/", dir_copy_contents=True))
    return replace(main, state=tree)


async def _file_state(client: Client, main: MainContext, name: str, kind: str) -> State:
    folder = client.options.get("dockerfilekey")
    if not folder:
        if main.file_state is not None:
            return main.file_state
        definition = (await client.inputs()).get(kind)
        if definition is not None:
            return from_definition(definition)
    follow = [name, f"{name}.dockerignore"]
    if (lower := _lower_name(name, kind)) is not None:
        follow.append(lower)
    folder = folder or kind
    return local(
        folder,
        session_id=session_of(client, folder),
        follow_paths=follow,
        shared_key_hint=folder,
        differ_none=True,
        custom_name=f"[internal] load build definition from {name}",
    )


def _lower_name(name: str, kind: str) -> str | None:
    """Give the other spelling of the usual name: `Dockerfile` may be `dockerfile`."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{kind}" if base == kind.capitalize() else None


async def _read_build_file(reference: Reference | None, name: str, kind: str) -> tuple[bytes, str]:
    assert reference is not None
    try:
        return await reference.read_file(name), name
    except NotFoundError as err:
        lower = _lower_name(name, kind)
        if lower is not None:
            try:
                return await reference.read_file(lower), name
            except NotFoundError:
                pass
        raise MissingBuildFileError(f"failed to read {kind}: {err.message}") from err
