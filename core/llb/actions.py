"""File actions as values that chain: `mkdir("/a").copy(src, "x", "/a/").rm("/tmp")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torana.core.llb import ops as o
from torana.core.llb.vertices import ActionSpec, Output
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.llb.state import State

Who = int | str  # a numeric id, or a name looked up in the tree that is changed


def owner(user: Who | None = None, group: Who | None = None) -> o.ChownOpt | None:
    """Make an owner; None keeps the default."""
    if user is None and group is None:
        return None
    return o.ChownOpt(_user(user), _user(group))


def _user(who: Who | None) -> o.UserOpt | None:
    if who is None:
        return None
    if isinstance(who, int):
        return o.UserOpt(by_id=who)
    return o.UserOpt(by_name=o.NamedUser(who))


@dataclass(frozen=True, slots=True)
class FileActions:
    """A chain of file actions, applied in order by `State.file`."""

    specs: tuple[ActionSpec, ...] = ()

    def _then(self, action: o.FileActionKind, source: Output | None = None) -> FileActions:
        return FileActions((*self.specs, ActionSpec(action, source)))

    def mkdir(
        self,
        path: str,
        *,
        mode: int = 0o755,
        make_parents: bool = False,
        owner: o.ChownOpt | None = None,
        timestamp_ns: int | None = None,
    ) -> FileActions:
        """Create a directory."""
        time = -1 if timestamp_ns is None else timestamp_ns
        return self._then(
            o.MkDir(path=path, mode=mode, make_parents=make_parents, owner=owner, timestamp=time)
        )

    def mkfile(
        self,
        path: str,
        data: bytes,
        *,
        mode: int = 0o644,
        owner: o.ChownOpt | None = None,
        timestamp_ns: int | None = None,
    ) -> FileActions:
        """Create or overwrite a file."""
        time = -1 if timestamp_ns is None else timestamp_ns
        return self._then(o.MkFile(path=path, mode=mode, data=data, owner=owner, timestamp=time))

    def symlink(
        self,
        target: str,
        path: str,
        *,
        owner: o.ChownOpt | None = None,
        timestamp_ns: int | None = None,
    ) -> FileActions:
        """Create a symbolic link at `path` with the text `target`."""
        time = -1 if timestamp_ns is None else timestamp_ns
        return self._then(o.Symlink(oldpath=target, newpath=path, owner=owner, timestamp=time))

    def rm(
        self, path: str, *, allow_not_found: bool = False, allow_wildcard: bool = False
    ) -> FileActions:
        """Remove a path with all below it."""
        return self._then(
            o.Rm(path=path, allow_not_found=allow_not_found, allow_wildcard=allow_wildcard)
        )

    def copy(
        self,
        source: State,
        src: str,
        dest: str,
        *,
        owner: o.ChownOpt | None = None,
        mode: int | str | None = None,
        follow_symlink: bool = False,
        dir_copy_contents: bool = False,
        attempt_unpack: bool = False,
        create_dest_path: bool = False,
        allow_wildcard: bool = False,
        allow_empty_wildcard: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        always_replace: bool = False,
        required: Sequence[str] = (),
        timestamp_ns: int | None = None,
    ) -> FileActions:
        """Copy `src` of `source` to `dest`; `mode` is permission bits or a symbolic change."""
        action = o.Copy(
            src=src,
            dest=dest,
            owner=owner,
            mode=mode if isinstance(mode, int) else -1 if mode is None else 0,
            mode_str=mode if isinstance(mode, str) else "",
            follow_symlink=follow_symlink,
            dir_copy_contents=dir_copy_contents,
            attempt_unpack=attempt_unpack,
            create_dest_path=create_dest_path,
            allow_wildcard=allow_wildcard,
            allow_empty_wildcard=allow_empty_wildcard,
            timestamp=-1 if timestamp_ns is None else timestamp_ns,
            include_patterns=tuple(include),
            exclude_patterns=tuple(exclude),
            always_replace_existing=always_replace,
            required_paths=tuple(required),
        )
        return self._then(action, source.output)

    def then(self, other: FileActions) -> FileActions:
        """Give both chains, one after the other."""
        return FileActions((*self.specs, *other.specs))


_START = FileActions()
mkdir = _START.mkdir
mkfile = _START.mkfile
symlink = _START.symlink
rm = _START.rm
copy = _START.copy
