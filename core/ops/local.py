"""The local source of the embedded engine: folders of this machine, read in place.

Spec: reference of sources, section 7; reference of the solver, section 6.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.ops.keyjson import key_json
from torana.core.ops.source import (
    InvalidSourceError,
    SourceKey,
    SourceRequest,
    SourceServices,
)
from torana.core.records import dataclass

LocalDirs = Mapping[str, Path]
"""Folders by the name that `local://NAME` uses."""

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False", ""})


class LocalNotOfferedError(NotFoundError):
    """The client does not offer a folder of that name."""

    code = "LOCAL_NOT_OFFERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """The attributes of a local source; a list that is not given is None, which is not empty."""

    session: str = ""
    prefix: str = ""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    follow_paths: tuple[str, ...] | None = None
    shared_key_hint: str = ""
    is_compared: bool = True  # `local.differ=metadata`
    metadata_only: bool = False
    metadata_exceptions: tuple[str, ...] = ()


OpenTree = Callable[[str, Path, LocalOptions], Tree]
"""Opens a folder as a tree: name of the source, folder, what is selected of it."""


def parse_local(request: SourceRequest) -> LocalOptions:
    """Read the attributes of `local://NAME`.

    Raises:
        InvalidSourceError: no name, or a malformed attribute.
    """
    if not request.rest:
        raise InvalidSourceError(f"invalid local source without a name: `{request.identifier}`")
    attrs = request.attrs
    prefix, colon, session = attrs.get("local.session", "").rpartition(":")
    differ = attrs.get("local.differ", "metadata")
    if differ not in ("metadata", "none", ""):
        raise InvalidSourceError(f"unrecognized local.differ value: `{differ}`")
    return LocalOptions(
        session=session,
        prefix=prefix if colon else "",
        include=_patterns(attrs, "local.includepattern"),
        exclude=_patterns(attrs, "local.excludepatterns"),
        follow_paths=_patterns(attrs, "local.followpaths"),
        shared_key_hint=attrs.get("local.sharedkeyhint", ""),
        is_compared=differ != "none",
        metadata_only=_flag(attrs, "local.metadatatransfer"),
        metadata_exceptions=_patterns(attrs, "local.metadatatransferexclude") or (),
    )


def _patterns(attrs: Mapping[str, str], name: str) -> tuple[str, ...] | None:
    text = attrs.get(name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = 0
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidSourceError(f"{name} is no list of strings: `{text}`")
    return tuple(value)


def _flag(attrs: Mapping[str, str], name: str) -> bool:
    text = attrs.get(name, "")
    if text not in _TRUE | _FALSE:
        raise InvalidSourceError(f"{name} is no boolean: `{text}`")
    return text in _TRUE


def local_key(name: str, session: str, options: LocalOptions) -> str:
    """Give the key string; it holds the session, so that it matches within one only."""
    lists = (options.include, options.exclude, options.follow_paths)
    include, exclude, follow = (None if value is None else list(value) for value in lists)
    members: dict[str, Any] = {
        "SessionID": session,
        "IncludePatterns": include,
        "ExcludePatterns": exclude,
        "FollowPaths": follow,
    }
    if options.metadata_only:
        members["MetadataTransfer"] = True
    if options.metadata_exceptions:
        members["MetadataExceptions"] = list(options.metadata_exceptions)
    return f"session:{name}:{Digest.of(key_json(members))}"


class LocalSource:
    """Serves `local://NAME` from `folders`, on behalf of one session."""

    schemes = ("local",)

    def __init__(self, folders: LocalDirs, *, session_id: str, open_tree: OpenTree) -> None:
        self._folders = folders
        self._session_id = session_id
        self._open_tree = open_tree

    def open(self, request: SourceRequest, services: SourceServices) -> LocalInstance:
        options = parse_local(request)
        name = f"{options.prefix}-{request.rest}" if options.prefix else request.rest
        session = options.session or self._session_id

        def tree() -> Tree:
            folder = self._folders.get(name)
            if folder is None:
                raise LocalNotOfferedError(f'no access allowed to dir "{name}"')
            if not folder.is_dir():
                raise LocalNotOfferedError(f"local folder `{name}` is no directory: {folder}")
            return self._open_tree(name, folder, options)

        return LocalInstance(local_key(request.rest, session, options), tree)


class LocalInstance:
    """A folder with a selection."""

    def __init__(self, key: str, tree: Callable[[], Tree]) -> None:
        self._key = key
        self._tree = tree

    async def cache_key(self, index: int) -> SourceKey:
        return SourceKey(self._key)

    async def snapshot(self) -> Tree | None:
        return self._tree()
