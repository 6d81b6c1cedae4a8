"""Cache keys of file ops: the definition key, and which parts of inputs count by content.

Pure. Spec: reference of the solver, section 6.3; member names and order are BuildKit's JSON.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torana.core.cache.ref import Selector
from torana.core.llb.ops import (
    ChownOpt,
    Copy,
    FileAction,
    FileActionKind,
    MkDir,
    MkFile,
    Rm,
    Symlink,
    UserOpt,
)
from torana.core.oci.digest import Digest
from torana.core.ops.file.plan import InvalidFileOpError, owner_of
from torana.core.ops.keyjson import key_json
from torana.core.records import dataclass
from torana.core.wildcards import has_wildcard


@dataclass(frozen=True, slots=True)
class InputKey:
    """How an input counts: by the digest of its selected paths, and their content; or not."""

    selector: Digest | None = None
    selectors: tuple[Selector, ...] = ()


@dataclass(frozen=True, slots=True)
class FileKey:
    """What identifies a file op."""

    digest: Digest
    inputs: tuple[InputKey, ...]


def file_key(actions: Sequence[FileAction], input_count: int) -> FileKey:
    """Compute the key of `actions`; indexes need not be valid, but names need a tree.

    Raises:
        InvalidFileOpError: a user or group name without a tree.
    """
    texts: list[str] = []
    indexes: list[list[int]] = []
    selected: dict[int, set[Selector]] = {}
    for entry in actions:
        kind = entry.action
        if kind is None:
            raise InvalidFileOpError("invalid file action: no kind")
        for slot, selector in _owner_selectors(owner_of(kind)):
            selected.setdefault(slot, set()).add(selector)
        if isinstance(kind, Copy) and 0 <= entry.secondary_input < input_count:
            selected.setdefault(entry.secondary_input, set()).add(_copy_selector(kind))
            kind = replace(kind, src=_base(kind.src))
        texts.append(base64.b64encode(key_json(_action_json(kind))).decode())
        indexes.append([entry.input, entry.secondary_input, entry.output])
    message: dict[str, Any] = {"Type": "buildkit.file.v0", "Actions": texts}
    if not _is_default(indexes):
        message["indexes"] = indexes
    primary = {entry.input for entry in actions}
    inputs = tuple(
        _input_key(selected[i]) if i in selected and i not in primary else InputKey()
        for i in range(input_count)
    )
    return FileKey(Digest.of(key_json(message)), inputs)


def copy_key(folder: str, action: Copy, owner: tuple[int, int] | None) -> Digest:
    """Give what is the same for copies of a client's folder that put equal files at equal paths."""
    return Digest.of(key_json({"folder": folder, "copy": _action_json(action), "owner": owner}))


def _is_default(indexes: Sequence[Sequence[int]]) -> bool:
    """Tell the shape whose indexes are not written.

    The number that an action's input is compared with counts from the number of *actions*, where
    the number of inputs was meant; keys stay as they are for the sake of existing caches.
    """
    last = len(indexes) - 1
    return all(
        first == (0 if i == 0 else len(indexes) + i - 1)
        and second in (-1, 1)
        and output == (0 if i == last else -1)
        for i, (first, second, output) in enumerate(indexes)
    )


def _copy_selector(copy: Copy) -> Selector:
    return Selector(
        path=copy.src,
        wildcard=copy.allow_wildcard and has_wildcard(copy.src),
        follow_links=copy.follow_symlink,
        include=copy.include_patterns,
        exclude=copy.exclude_patterns,
        required=copy.required_paths,
    )


def _owner_selectors(owner: ChownOpt | None) -> list[tuple[int, Selector]]:
    found = []
    if owner is not None:
        for option, path in ((owner.user, "/etc/passwd"), (owner.group, "/etc/group")):
            if option is not None and option.by_name is not None:
                if option.by_name.input < 0:
                    raise InvalidFileOpError(f"invalid user index {option.by_name.input}")
                found.append((option.by_name.input, Selector(path=path, follow_links=True)))
    return found


def _input_key(selected: set[Selector]) -> InputKey:
    paths = sorted({selector.path.encode() for selector in selected}, reverse=True)
    return InputKey(Digest.of(b"\0".join(paths)), content_selectors(selected))


def content_selectors(selected: set[Selector]) -> tuple[Selector, ...]:
    """Give what is hashed of an input: plain paths without nested ones, then the filtered."""
    plain: list[Selector] = []
    filtered: list[Selector] = []
    for selector in selected:
        is_plain = not (
            selector.wildcard or selector.include or selector.exclude or selector.required
        )
        cleaned = replace(selector, path=posixpath.normpath("/" + selector.path.lstrip("/")))
        (plain if is_plain else filtered).append(cleaned)
    kept = _outermost([s for s in plain if not s.follow_links])
    kept += _outermost([s for s in plain if s.follow_links])
    kept += filtered
    return tuple(sorted(kept, key=lambda s: s.path.encode()))


def _outermost(selectors: Sequence[Selector]) -> list[Selector]:
    kept: list[Selector] = []
    for selector in sorted(set(selectors), key=lambda s: s.path.rstrip("/") + "/"):
        if not kept or not (selector.path.rstrip("/") + "/").startswith(
            kept[-1].path.rstrip("/") + "/"
        ):
            kept.append(selector)
    return kept


def _base(path: str) -> str:
    """Give the last element as Go's `path.Base` does."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def _action_json(action: FileActionKind) -> dict[str, Any]:
    match action:
        case Copy():
            members: dict[str, Any] = {
                "src": action.src,
                "dest": action.dest,
                "owner": _owner_json(action.owner),
                "mode": action.mode,
                "followSymlink": action.follow_symlink,
                "dirCopyContents": action.dir_copy_contents,
                "attemptUnpackDockerCompatibility": action.attempt_unpack,
                "createDestPath": action.create_dest_path,
                "allowWildcard": action.allow_wildcard,
                "allowEmptyWildcard": action.allow_empty_wildcard,
                "timestamp": action.timestamp,
                "include_patterns": list(action.include_patterns),
                "exclude_patterns": list(action.exclude_patterns),
                "alwaysReplaceExistingDestPaths": action.always_replace_existing,
                "modeStr": action.mode_str,
                "required_paths": list(action.required_paths),
            }
        case MkFile():
            members = {
                "path": action.path,
                "mode": action.mode,
                "data": base64.b64encode(action.data).decode(),
                "owner": _owner_json(action.owner),
                "timestamp": action.timestamp,
            }
        case MkDir():
            members = {
                "path": action.path,
                "mode": action.mode,
                "makeParents": action.make_parents,
                "owner": _owner_json(action.owner),
                "timestamp": action.timestamp,
            }
        case Rm():
            members = {
                "path": action.path,
                "allowNotFound": action.allow_not_found,
                "allowWildcard": action.allow_wildcard,
            }
        case Symlink():
            members = {
                "oldpath": action.oldpath,
                "newpath": action.newpath,
                "owner": _owner_json(action.owner),
                "timestamp": action.timestamp,
            }
    # An owner message without members is still written; only an absent one is not.
    return {k: v for k, v in members.items() if v or (k == "owner" and v is not None)}


def _owner_json(owner: ChownOpt | None) -> dict[str, Any] | None:
    if owner is None:
        return None
    sides = (("user", owner.user), ("group", owner.group))
    return {name: _user_json(side) for name, side in sides if side is not None}


def _user_json(option: UserOpt) -> dict[str, Any]:
    if option.by_name is not None:
        named = {"name": option.by_name.name, "input": option.by_name.input}
        return {"User": {"byName": {k: v for k, v in named.items() if v}}}
    return {"User": {"byId": option.by_id} if option.by_id else {}}
