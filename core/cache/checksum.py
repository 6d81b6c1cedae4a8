"""Content digests of parts of a tree, identical to BuildKit's.

A plain path has the digest of what lies there. With wildcards or patterns it is the digest of a
list: of every selected entry with its path, directories by their own metadata only.

Spec: contenthash reference, sections 4 to 6.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence

from torana.core.cache.digesttree import NOTHING, DigestTree, join
from torana.core.cache.ref import Selector
from torana.core.errors import NotFoundError
from torana.core.oci.digest import Digest
from torana.core.patterns import PatternMatcher, State
from torana.core.records import dataclass
from torana.core.wildcards import component_patterns, split_wildcard


def content_digest(tree: DigestTree | None, selectors: Sequence[Selector]) -> Digest:
    """Digest what `selectors` select; no selectors mean everything, None is scratch. Blocks.

    Raises:
        NotFoundError: a plain or required path is missing.
        UserError: a malformed pattern.
    """
    digests = [selected_digest(tree, selector) for selector in selectors or (Selector(),)]
    return Digest.of(b"\0".join(digest.encode() for digest in digests))


def selected_digest(tree: DigestTree | None, selector: Selector) -> Digest:
    """Digest what one selector selects; see `content_digest`."""
    path = posixpath.normpath("/" + selector.path.lstrip("/"))
    if tree is None:
        if path == "/":
            return NOTHING
        raise NotFoundError(f'"{path}": no such file or directory')
    if not (selector.wildcard or selector.include or selector.exclude):
        return tree.plain(os.fsencode(path[1:]), follow=selector.follow_links)
    return _Selection(tree, selector, path[1:]).digest()


@dataclass(frozen=True, slots=True)
class _Item:
    path: bytes  # as the selector names it
    digest: Digest


@dataclass(frozen=True, slots=True)
class _Frame:
    """An entry of the walk; `above` are directories that are taken when something in them is."""

    real: bytes
    shown: bytes
    candidate: str  # relative to the base, for patterns
    include: State | None
    exclude: State | None
    above: tuple[_Item, ...]


class _Selection:
    """The digest of a walk with wildcards or patterns."""

    def __init__(self, tree: DigestTree, selector: Selector, path: str) -> None:
        self._tree = tree
        self._selector = selector
        self._path = path
        self._include = PatternMatcher(selector.include) if selector.include else None
        self._exclude = PatternMatcher(selector.exclude) if selector.exclude else None
        self._items: list[_Item] = []
        self._taken: set[bytes] = set()

    def digest(self) -> Digest:
        prefix, pattern = self._path, ""
        if self._selector.wildcard:
            prefix, pattern = split_wildcard(self._path)
        shown = os.fsencode(prefix)
        start = self._tree.resolve(shown, follow_last=bool(pattern))
        if self._tree.mode(start) is None:
            if not self._selector.wildcard and self._path:
                raise NotFoundError(f'"/{self._path}": not found')
        elif pattern:
            for real, name in self._matches(start, shown, component_patterns(pattern)):
                self._scope(real, name)
        else:
            self._scope(start, shown)
        return self._finish(shown)

    def _matches(
        self, real: bytes, shown: bytes, patterns: Sequence[re.Pattern[str]]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Match one component per directory level."""
        pattern, *deeper = patterns
        if not self._tree.is_folder(real):
            return
        for name in self._tree.names(real):
            if pattern.fullmatch(os.fsdecode(name)):
                child = join(real, name), join(shown, name)
                if deeper:
                    yield from self._matches(*child, deeper)
                else:
                    yield child

    def _scope(self, base: bytes, shown: bytes) -> None:
        """Take the base and what is below it, as the patterns say."""
        stack = [_Frame(base, shown, "", None, None, ())]
        while stack:
            frame = stack.pop()
            below = self._visit(frame)
            stack += reversed(below)

    def _visit(self, frame: _Frame) -> list[_Frame]:
        """Take one entry or not; give the ones below it."""
        candidate = frame.candidate
        include = exclude = None
        is_included = True
        if self._include is not None:
            is_included, include = self._include.matches_below(candidate, frame.include)
        if self._exclude is not None:
            is_excluded, exclude = self._exclude.matches_below(candidate, frame.exclude)
            is_included = is_included and not is_excluded
        is_folder = self._tree.is_folder(frame.real)
        above = frame.above
        # The header of the root is never an item: only `/` ends with a slash.
        is_root = is_folder and not self._path and not frame.shown
        if is_included and not is_root:
            for header in above:
                self._take(header)
            self._take(_Item(frame.shown, self._digest_of(frame.real, is_top=not candidate)))
        elif is_folder and not is_root:
            above = (*above, _Item(frame.shown, self._tree.entry(frame.real)))
        if not is_folder:
            return []
        return [
            _Frame(
                join(frame.real, name),
                join(frame.shown, name),
                f"{candidate}/{os.fsdecode(name)}" if candidate else os.fsdecode(name),
                include,
                exclude,
                above,
            )
            for name in self._tree.names(frame.real)
        ]

    def _take(self, item: _Item) -> None:
        if item.path not in self._taken:
            self._taken.add(item.path)
            self._items.append(item)

    def _digest_of(self, real: bytes, *, is_top: bool) -> Digest:
        is_followed = is_top and self._selector.follow_links
        if is_followed and stat.S_ISLNK(self._tree.mode(real) or 0):
            return self._tree.plain(real, follow=True)
        return self._tree.entry(real)

    def _finish(self, prefix: bytes) -> Digest:
        for required in self._selector.required:
            wanted = os.fsencode(required.strip("/"))
            if not any(item.path.startswith(wanted) for item in self._items):
                raise NotFoundError(f'"{required}": not found')
        if not self._items:
            return NOTHING
        last = os.fsencode(self._path.rpartition("/")[2])
        if len(self._items) == 1 and self._items[0].path.rpartition(b"/")[2] == last:
            return self._items[0].digest
        digest = hashlib.sha256()
        for item in self._items:
            rest = item.path[len(prefix) :].strip(b"/")
            digest.update(b"\0" + rest.replace(b"/", b"\0") + item.digest.encode())
        return Digest("sha256:" + digest.hexdigest())
