"""`Forms`: layers as directories that an overlay mount can put on any base.

The upper directory of a snapshot is made for the snapshot below it. Put elsewhere, it can say too
much: the kernel marks new directories as opaque for its own speed, and copies up files that do not
change after all. What a layer really says is its changes (`changes.py`). An upper directory that
says just that is its own form; of others a form is made, with hard links to its files. Either is
found out once, when a stack first needs it, and kept beside the snapshot:

<root>/<upper>/layers/<lower>/         the form, if it is not `fs` itself
<root>/<upper>/layers/<lower>.json     its record: where it is, which directories have whiteouts
<root>/<stack>/lowers                  what lies below the top directory of a stack, top first

Whiteouts are the limit: in a directory that no other layer has, the kernel lists their names.
Where that would happen, and for more layers than a mount takes, a stack is made by links.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from torana.core.records import dataclass
from torana.core.snapshots.changes import is_opaque
from torana.core.snapshots.folders import SnapshotFolders
from torana.core.snapshots.linking import LinkedLayer
from torana.core.snapshots.snapshotter import Change, ChangeKind, LayerOf
from torana.core.snapshots.stacks import discard, source_of

if TYPE_CHECKING:
    from torana.core.snapshots.overlay import OverlaySnapshotter

_LAYERS: Final = "layers"
_LOWERS: Final = "lowers"
_NOTHING: Final = "-"  # in place of a lower or upper snapshot
_MAX_LAYERS: Final = 400  # children go on top, and 500 is where mounts end


@dataclass(frozen=True, slots=True)
class Form:
    """A directory to be mounted; `with_whiteouts` are the paths in it that have deletions."""

    path: Path
    with_whiteouts: tuple[bytes, ...] = ()


class Forms:
    """Makes and finds forms, and the lists of directories of stacks."""

    def __init__(self, snapshots: OverlaySnapshotter, folders: SnapshotFolders) -> None:
        self._snapshots = snapshots
        self._folders = folders
        self._below: dict[str, list[str]] = {}

    def below(self, name: str) -> list[str]:
        """Give the directories below the top one of a stack that is filled, top first."""
        if name not in self._below:
            try:
                paths = json.loads((self._folders.folder(name) / _LOWERS).read_text())
            except FileNotFoundError:
                paths = []
            self._below[name] = [str(self._folders.root / path) for path in paths]
        return self._below[name]

    def forget(self, name: str) -> None:
        """Note that a snapshot was removed."""
        self._below.pop(name, None)

    def stack(self, name: str, base: str | None, layers: Sequence[LayerOf]) -> bool:
        """Write the list of directories of stack `name`: `layers` on the tree of `base`.

        Says whether a mount of them shows the right tree; if not, there is no list.
        """
        (self._folders.folder(name) / _LOWERS).unlink(missing_ok=True)  # of a process that died
        below = [] if base is None else self._snapshots.directories(base)
        if len(below) + len(layers) > _MAX_LAYERS:
            return False
        forms: list[Form] = []
        for layer in layers:
            try:
                forms.append(self.form(layer))
            except PermissionError:  # an old kernel lets no user make whiteouts
                return False
        if not self._hides_whiteouts(base, forms):
            return False
        paths = [*(str(form.path) for form in reversed(forms)), *below]
        # A directory may be mounted once only. The upper one of two says all that the other does.
        unique = [os.path.relpath(path, self._folders.root) for path in dict.fromkeys(paths)]
        _write(self._folders.folder(name) / _LOWERS, unique)
        return True

    def form(self, layer: LayerOf) -> Form:
        """Give the form of a layer, made if there is none yet."""
        holder = layer.upper or layer.lower
        assert holder is not None
        tree = self._snapshots.tree(holder)
        if layer.lower is None and self._folders.parent(holder) is None:
            if not self._snapshots.is_stack(holder):
                return Form(tree)  # nothing was below when it was written
        folder = self._folders.folder(holder)
        name = _NOTHING if layer.lower is None else layer.lower
        key = f"{_NOTHING}{name}" if layer.upper is None else name
        record = folder / _LAYERS / f"{key}.json"
        for snapshot in (layer.upper, layer.lower):
            if snapshot is not None:
                # Stacks are filled now: to fill them can take the lock that comes next.
                self._snapshots.directories(snapshot)
        with self._folders.locked(folder):
            if not record.exists():
                record.parent.mkdir(exist_ok=True)
                _write(record, self._make(layer, tree, record.parent / key))
            raw = json.loads(record.read_text())
        return Form(folder / raw["path"], tuple(os.fsencode(path) for path in raw["whiteouts"]))

    def _make(self, layer: LayerOf, tree: Path, target: Path) -> dict[str, Any]:
        changes = list(self._snapshots.changes(layer.upper, layer.lower))
        holder = layer.upper
        is_own = holder is not None and self._folders.parent(holder) == layer.lower
        if is_own and not self._snapshots.is_stack(str(holder)):
            found = _own_whiteouts(os.fsencode(tree), changes)
            if found is not None:
                return {"path": "fs", "whiteouts": [os.fsdecode(path) for path in found]}
        discard(target)
        target.mkdir(mode=0o755)
        root = os.fsencode(target)
        if holder is None:
            linked = LinkedLayer(root, None, locate=source_of, keeps_whiteouts=True)
            linked.apply(changes)
        else:
            with self._snapshots.mount(holder, readonly=True) as source:
                linked = LinkedLayer(
                    root,
                    os.fsencode(source),
                    locate=self._snapshots.locator(layer),
                    keeps_whiteouts=True,
                )
                linked.apply(changes)
        whiteouts = [os.fsdecode(path) for path in sorted(linked.with_whiteouts)]
        return {"path": f"{_LAYERS}/{target.name}", "whiteouts": whiteouts}

    def _hides_whiteouts(self, base: str | None, forms: Sequence[Form]) -> bool:
        """Say whether each directory with whiteouts has one below it to be merged with."""
        places = [
            (number, path) for number, form in enumerate(forms) for path in form.with_whiteouts
        ]
        # The root of a stack is merged always, with its own top directory.
        places = [(number, path) for number, path in places if path]
        if not places:
            return True
        below = [os.fsencode(form.path) for form in forms]
        if base is None:
            return all(_is_merged(below[:number][::-1], path) for number, path in places)
        with self._snapshots.mount(base, readonly=True) as tree:
            whole = os.fsencode(tree)
            return all(_is_merged([*below[:number][::-1], whole], path) for number, path in places)


def _is_merged(below: Sequence[bytes], path: bytes) -> bool:
    """Say whether the first tree of `below` that has something at `path` has a directory there."""
    for tree in below:
        try:
            return stat.S_ISDIR(os.lstat(tree + b"/" + path).st_mode)
        except FileNotFoundError:
            continue
        except NotADirectoryError:
            return False
    return False


def _own_whiteouts(upper: bytes, changes: Sequence[Change]) -> list[bytes] | None:
    """Give the directories with whiteouts of an upper directory; None if it is no form."""
    expected = {change.path: change.kind for change in changes}
    found: list[bytes] = []
    pending = [b""]
    count = 0
    while pending:
        folder = pending.pop()
        full = upper + b"/" + folder if folder else upper
        if folder and is_opaque(full):
            return None
        is_changed = False
        has_whiteout = False
        with os.scandir(full) as entries:
            for entry in entries:
                path = folder + b"/" + entry.name if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                    is_changed = True
                    count += path in expected
                    continue
                kind = expected.get(path)
                if kind is None:
                    return None
                is_changed = True
                count += 1
                has_whiteout = has_whiteout or kind is ChangeKind.DELETE
        if folder and not is_changed and folder not in expected:
            return None  # copied up for something that was undone
        if has_whiteout:
            found.append(folder)
    return found if count == len(expected) else None


def _write(path: Path, value: Any) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(json.dumps(value))
    os.replace(temporary, path)
