"""Content digests of parts of a tree, identical to BuildKit's.

A tree is scanned lazily: only what a selector needs is looked at. Digests are fed into other
digests as text. Every path has a header digest (a directory's own metadata) or an entry digest;
directories also have a recursive one.

Spec: contenthash reference.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from torana.core.cache.ref import Selector
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.patterns import PatternMatcher, State

_EMPTY: Final = Digest.of(b"")
_MAX_LINKS: Final = 255
_CHUNK: Final = 1 << 20
_TYPEFLAGS: Final = {
    stat.S_IFDIR: b"5",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFIFO: b"6",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """What of a client's folder is sent: dockerignore patterns; empty ones send all."""

    include: PatternMatcher | None = None
    exclude: PatternMatcher | None = None


class ScannedTree:
    """A tree on disk under digest; paths are bytes without a leading slash, b"" is the root.

    `is_local` marks a folder of the client: owners count as 0:0 and the root has no header.
    """

    def __init__(self, root: bytes, *, is_local: bool = False, sent: Filter | None = None) -> None:
        self.root = root
        self.is_local = is_local
        self._sent = sent or Filter()
        self._children: dict[bytes, list[bytes]] = {}
        self._states: dict[bytes, tuple[State | None, State | None]] = {b"": (None, None)}
        self._entries: dict[bytes, Digest] = {}
        self._recursive: dict[bytes, Digest] = {}
        self.seen: dict[bytes, tuple[int, int, int, int]] = {}  # path -> stat of hashed files

    # Looking

    def known_entries(self) -> list[tuple[bytes, Digest]]:
        """Give the entries that were hashed, with the digests of each alone."""
        return [(path, digest) for path, digest in self._entries.items() if path]

    def full(self, path: bytes) -> bytes:
        return self.root + b"/" + path if path else self.root

    def lstat(self, path: bytes) -> os.stat_result | None:
        """Give the status of a path, None where it is missing or not sent."""
        try:
            status = os.lstat(self.full(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if path and (self._sent.include or self._sent.exclude):
            parent, _, name = path.rpartition(b"/")
            if name not in self.children(parent):
                return None
        return status

    def children(self, path: bytes) -> list[bytes]:
        """Give the names in a directory in byte order, without what is not sent."""
        known = self._children.get(path)
        if known is None:
            names = sorted(os.listdir(self.full(path)))
            if self._sent.include or self._sent.exclude:
                names = [name for name in names if self._is_sent(path, name)]
            known = self._children[path] = names
        return known

    def _is_sent(self, folder: bytes, name: bytes) -> bool:
        path = folder + b"/" + name if folder else name
        if folder not in self._states and folder:
            parent, _, last = folder.rpartition(b"/")
            self._is_sent(parent, last)
        include_above, exclude_above = self._states[folder]
        text = os.fsdecode(path)
        is_sent = True
        include_state = exclude_state = None
        if self._sent.include:
            is_sent, include_state = self._sent.include.matches_below(text, include_above)
        if self._sent.exclude:
            excluded, exclude_state = self._sent.exclude.matches_below(text, exclude_above)
            is_sent = is_sent and not excluded
        self._states[path] = (include_state, exclude_state)
        if is_sent or not stat.S_ISDIR(os.lstat(self.full(path)).st_mode):
            return is_sent
        exclude = self._sent.exclude
        may_hold = bool(self._sent.include) or (
            exclude is not None and exclude.has_exclusions and exclude.could_match_below(text)
        )
        return may_hold and bool(self.children(path))

    def resolve(self, path: bytes, *, follow_last: bool) -> bytes:
        """Resolve links, confined to the root; missing components stay."""
        pending = [part for part in path.split(b"/") if part not in (b"", b".")][::-1]
        done: list[bytes] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == b"..":
                if done:
                    done.pop()
                continue
            if not pending and not follow_last:
                done.append(part)
                break
            here = b"/".join([*done, part])
            try:
                target = os.readlink(self.full(here))
            except OSError as err:
                if err.errno not in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR):
                    raise
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise NotFoundError(f'"/{os.fsdecode(path)}": too many links')
            if target.startswith(b"/"):
                done.clear()
            parts = [p for p in target.split(b"/") if p not in (b"", b".")]
            pending.extend(reversed(parts))
        return b"/".join(done)

    # Digests

    def entry(self, path: bytes, status: os.stat_result) -> Digest:
        """Digest of one entry, or of a directory's header."""
        known = self._entries.get(path)
        if known is None:
            if self.is_local and not path:
                known = _EMPTY
            else:
                known = self._hash_entry(path, status)
            self._entries[path] = known
        return known

    def _hash_entry(self, path: bytes, status: os.stat_result) -> Digest:
        full = self.full(path)
        kind = stat.S_IFMT(status.st_mode)
        is_file = kind not in _TYPEFLAGS
        is_link = kind == stat.S_IFLNK
        mode = 0o777 if is_link else stat.S_IMODE(status.st_mode)
        uid, gid = (0, 0) if self.is_local else (status.st_uid, status.st_gid)
        size = status.st_size if kind == stat.S_IFREG else 0
        link = os.readlink(full) if is_link else b""
        digest = hashlib.sha256(
            b"namemode%duid%dgid%dsize%dtypeflag%slinkname%sunamegnamedevmajor0devminor0"
            % (mode, uid, gid, size, _TYPEFLAGS.get(kind, b"0"), link)
        )
        for name, value in _xattrs(full):
            digest.update(name + value)
        if is_file and size:
            with open(full, "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self.seen[path] = signature(status)
        return Digest("sha256:" + digest.hexdigest())

    def recursive(self, path: bytes, status: os.stat_result) -> Digest:
        """Digest of a path with all below it; links are not followed."""
        known = self._recursive.get(path)
        if known is not None:
            return known
        # Children first, without recursion: a stack of directories, hashed on the way back.
        order: list[bytes] = []
        pending = [path]
        stats: dict[bytes, os.stat_result] = {path: status}
        while pending:
            here = pending.pop()
            order.append(here)
            if not stat.S_ISDIR(stats[here].st_mode):
                continue
            for name in self.children(here):
                child = here + b"/" + name if here else name
                stats[child] = os.lstat(self.full(child))
                pending.append(child)
        for here in reversed(order):
            header = self.entry(here, stats[here])
            if not stat.S_ISDIR(stats[here].st_mode):
                self._recursive[here] = header
                continue
            digest = hashlib.sha256(b"\0" + header.encode())
            for name in self.children(here):
                child = here + b"/" + name if here else name
                digest.update(b"\0" + name + self._recursive[child].encode())
            self._recursive[here] = Digest("sha256:" + digest.hexdigest())
        return self._recursive[path]

    def plain(self, path: str, *, follow: bool) -> Digest:
        """Digest of a plain path.

        Raises:
            NotFoundError: it does not exist, or is a dangling link that is followed.
        """
        raw = self.resolve(os.fsencode(path), follow_last=follow)
        status = self.lstat(raw)
        if status is None:
            raise NotFoundError(f'"{path}": not found')
        return self.recursive(raw, status)


def signature(status: os.stat_result) -> tuple[int, int, int, int]:
    """Give what changes when a file's content does."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _xattrs(full: bytes) -> list[tuple[bytes, bytes]]:
    try:
        names = os.listxattr(full, follow_symlinks=False)
    except OSError:
        return []
    counted = [
        name
        for name in names
        if name == "security.capability"
        or not name.startswith(("security.", "system.", "trusted.overlay.", "user.overlay."))
    ]
    return [
        (os.fsencode(name), os.getxattr(full, name, follow_symlinks=False))
        for name in sorted(counted, key=os.fsencode)
    ]


def content_digest(tree: ScannedTree | None, selectors: Sequence[Selector]) -> Digest:
    """Digest of what `selectors` select; no selectors mean everything, None is scratch. Blocks.

    Raises:
        NotFoundError: a plain or required path is missing.
    """
    digests = [_select(tree, selector) for selector in selectors or (Selector(),)]
    return Digest.of(b"\0".join(digest.encode() for digest in digests))


def _select(tree: ScannedTree | None, selector: Selector) -> Digest:
    path = posixpath.normpath("/" + selector.path.lstrip("/"))
    if tree is None:
        if path == "/":
            return _EMPTY
        raise NotFoundError(f'"{path}": no such file or directory')
    if not (selector.wildcard or selector.include or selector.exclude):
        return tree.plain(path, follow=selector.follow_links)
    return _Filtered(tree, selector, path.lstrip("/")).digest()


@dataclass(frozen=True, slots=True)
class _Item:
    path: bytes
    digest: Digest


class _Filtered:
    """The digest of a walk with wildcards or patterns."""

    def __init__(self, tree: ScannedTree, selector: Selector, path: str) -> None:
        self._tree = tree
        self._selector = selector
        self._path = path
        self._include = PatternMatcher(selector.include) if selector.include else None
        self._exclude = PatternMatcher(selector.exclude) if selector.exclude else None
        self._items: list[_Item] = []

    def digest(self) -> Digest:
        prefix, pattern = self._prefix()
        start = self._tree.resolve(os.fsencode(prefix), follow_last=pattern is not None)
        status = self._tree.lstat(start)
        if status is None:
            if self._selector.wildcard or not self._path:
                return self._finish(prefix)
            raise NotFoundError(f'"/{self._path}": not found')
        if pattern is None:
            self._scope(start, os.fsencode(prefix), status)
        else:
            self._find(start, os.fsencode(prefix), status, pattern)
        return self._finish(prefix)

    def _prefix(self) -> tuple[str, re.Pattern[bytes] | None]:
        """Give the literal start, and the whole path as an expression if there are wildcards."""
        if not self._selector.wildcard:
            return self._path, None
        parts = self._path.split("/")
        count = next((n for n, part in enumerate(parts) if _is_wild(part)), None)
        if count is None:
            return self._path, None
        return "/".join(parts[:count]), _shell(self._path)

    def _find(
        self, real: bytes, shown: bytes, status: os.stat_result, pattern: re.Pattern[bytes]
    ) -> None:
        """Look for matches; everything below a match is in scope."""
        stack = [(real, shown, status)]
        while stack:
            real, shown, status = stack.pop()
            if shown and pattern.fullmatch(shown):
                self._scope(real, shown, status)
                continue
            if stat.S_ISDIR(status.st_mode):
                stack += [
                    (child, name, os.lstat(self._tree.full(child)))
                    for child, name in reversed(list(self._below(real, shown)))
                ]

    def _below(self, real: bytes, shown: bytes) -> Iterator[tuple[bytes, bytes]]:
        for name in self._tree.children(real):
            yield (real + b"/" + name if real else name, shown + b"/" + name if shown else name)

    def _scope(self, base: bytes, shown: bytes, status: os.stat_result) -> None:
        """Take the base and what is below it, as the patterns say."""
        # A frame: real path, shown path, candidate, stat, states above, headers not yet taken.
        Frame = tuple[
            bytes, bytes, str, os.stat_result, State | None, State | None, tuple[_Item, ...]
        ]
        taken: set[bytes] = set()
        stack: list[Frame] = [(base, shown, "", status, None, None, ())]
        while stack:
            real, name, candidate, found, include, exclude, above = stack.pop()
            is_folder = stat.S_ISDIR(found.st_mode)
            is_top = not candidate
            included = True
            if self._include is not None:
                included, include = self._include.matches_below(candidate, include)
            if self._exclude is not None:
                excluded, exclude = self._exclude.matches_below(candidate, exclude)
                included = included and not excluded
            skips_root = is_folder and not self._path and not name
            headers = above
            if included and not skips_root:
                for header in above:
                    if header.path not in taken:
                        taken.add(header.path)
                        self._items.append(header)
                self._items.append(_Item(name, self._item(real, found, is_top=is_top)))
                if is_folder:
                    taken.add(name)
            elif is_folder and not skips_root:
                headers = (*above, _Item(name, self._tree.entry(real, found)))
            if is_folder:
                for child, child_name in reversed(list(self._below(real, name))):
                    last = os.fsdecode(child_name.rpartition(b"/")[2])
                    below = f"{candidate}/{last}" if candidate else last
                    stat_below = os.lstat(self._tree.full(child))
                    stack.append((child, child_name, below, stat_below, include, exclude, headers))

    def _item(self, real: bytes, status: os.stat_result, *, is_top: bool) -> Digest:
        if is_top and self._selector.follow_links and stat.S_ISLNK(status.st_mode):
            return self._tree.plain("/" + os.fsdecode(real), follow=True)
        return self._tree.entry(real, status)

    def _finish(self, prefix: str) -> Digest:
        for required in self._selector.required:
            wanted = os.fsencode(required.strip("/"))
            if not any(item.path.startswith(wanted) for item in self._items):
                raise NotFoundError(f'"{required}": not found')
        if not self._items:
            return _EMPTY
        last = os.fsencode(self._path.rpartition("/")[2])
        if len(self._items) == 1 and self._items[0].path.rpartition(b"/")[2] == last:
            return self._items[0].digest
        size = len(os.fsencode(prefix))
        digest = hashlib.sha256()
        for item in self._items:
            rest = item.path[size:].strip(b"/")
            digest.update(b"\0" + rest.replace(b"/", b"\0") + item.digest.encode())
        return Digest("sha256:" + digest.hexdigest())


def _is_wild(part: str) -> bool:
    position = 0
    while position < len(part):
        if part[position] == "\\":
            position += 2
            continue
        if part[position] in "*?[":
            return True
        position += 1
    return False


def _shell(pattern: str) -> re.Pattern[bytes]:
    """Compile a shell pattern whose `*` and `?` never match `/`."""
    out, position = [], 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\" and position < len(pattern):
            out.append(re.escape(pattern[position]))
            position += 1
        elif char == "[" and (end := pattern.find("]", position + 1)) > 0:
            body = pattern[position:end].replace("[", "\\[")
            out.append(f"[{body}]")
            position = end + 1
        else:
            out.append(re.escape(char))
    return re.compile("".join(out).encode("utf-8", "surrogateescape"), re.DOTALL)
