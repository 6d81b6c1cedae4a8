"""`StackSuite`: what stacks of layers must be on every snapshotter, and the laws of merge and diff.

Subclass it with the fixture `snapshotter`. The measure of all is what a runtime would get: each
layer written as a tar and unpacked, one after the other, into a plain folder.

Needs pytest and hypothesis, which are no dependencies of the package: import it from tests only.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from torana.core.errors import ConflictError
from torana.core.snapshots.extract import apply_layer
from torana.core.snapshots.layertar import write_layer
from torana.core.snapshots.snapshotter import LayerOf, Snapshotter
from torana.core.testing.snapshotters import make

Edit = tuple[str, str]  # what to do, and where
Edits = list[Edit]
Chain = list[Edits]  # one layer per item

_PATHS: Final = ["d", "d/e", "d/e/f", "d/g", "h", "h/d", "l"]
_EDIT: Final = st.tuples(
    st.sampled_from(["file", "folder", "link", "remove", "mode", "again"]), st.sampled_from(_PATHS)
)
_EDITS: Final = st.lists(_EDIT, max_size=5)
_CHAIN: Final = st.lists(_EDITS, min_size=1, max_size=3)
_laws: Final = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
_count: Final = itertools.count(1)


def edit_tree(root: Path, edits: Edits) -> None:
    """Do edits; one that is not possible is left out."""
    for action, name in edits:
        path = root / name
        above = [parent for parent in path.parents if root in parent.parents]
        if any(os.path.lexists(p) and (p.is_symlink() or not p.is_dir()) for p in above):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        exists = os.path.lexists(path)
        match action:
            case "remove" if exists:
                _remove(path)
            case "file":
                _remove(path)
                path.write_text(f"{name} {next(_count)}")
            case "folder":
                if not path.is_dir() or path.is_symlink():
                    _remove(path)
                    path.mkdir()
            case "again":  # what makes an opaque directory
                _remove(path)
                path.mkdir()
            case "link":
                _remove(path)
                path.symlink_to("nowhere")
            case "mode" if exists and not path.is_symlink():
                path.chmod(path.stat().st_mode ^ 0o011)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def tree_state(root: Path) -> dict[str, Any]:
    """Give all that a layer carries; times in whole seconds, as in a tar."""
    found: dict[str, Any] = {}
    for top, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(top) / name
            status = path.lstat()
            is_folder = stat.S_ISDIR(status.st_mode)
            content: str | None = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_text()
            # A change below changes a directory's time, so equal trees may differ there.
            when = None if is_folder else int(status.st_mtime)
            found[str(path.relative_to(root))] = (oct(status.st_mode), when, content)
    return found


def mounted_state(snapshotter: Snapshotter, name: str) -> dict[str, Any]:
    with snapshotter.mount(name, readonly=True) as root:
        return tree_state(root)


def unpacked_state(snapshotter: Snapshotter, layers: Sequence[LayerOf]) -> dict[str, Any]:
    """Give what a runtime gets that unpacks the layers."""
    with tempfile.TemporaryDirectory() as text:
        for layer in layers:
            packed = io.BytesIO()
            changes = snapshotter.changes(layer.upper, layer.lower)
            if layer.upper is None:
                write_layer(changes, b"/nonexistent", packed)
            else:
                with snapshotter.mount(layer.upper, readonly=True) as root:
                    write_layer(changes, os.fsencode(root), packed)
            packed.seek(0)
            apply_layer(packed, Path(text))
        return tree_state(Path(text))


class StackSuite:
    """Stacks: laziness, links, and laws."""

    @staticmethod
    def chain(snapshotter: Snapshotter, chain: Chain) -> tuple[str, list[LayerOf]]:
        """Make a snapshot with one layer per list of edits; gives its layers, too."""
        parent: str | None = None
        layers = []
        for edits in chain:
            name = f"chain{next(_count)}"
            make(snapshotter, name, parent, lambda root, edits=edits: edit_tree(root, edits))  # type: ignore[misc]  # a default argument binds the loop's value
            layers.append(LayerOf(name, parent))
            parent = name
        assert parent is not None
        return parent, layers

    @staticmethod
    def stacked(snapshotter: Snapshotter, layers: Sequence[LayerOf]) -> str:
        name = f"stack{next(_count)}"
        snapshotter.stack(name, layers)
        return name

    def test_a_stack_is_a_snapshot(self, snapshotter: Snapshotter) -> None:
        a, a_layers = self.chain(snapshotter, [[("file", "d/g")]])
        b, b_layers = self.chain(snapshotter, [[("file", "d/e")]])
        name = self.stacked(snapshotter, [*a_layers, *b_layers])
        assert snapshotter.exists(name)
        assert snapshotter.parent(name) is None
        assert snapshotter.usage(name).inodes == 0  # nothing was done yet
        with pytest.raises(ConflictError):
            snapshotter.stack(name, a_layers)
        assert sorted(mounted_state(snapshotter, name)) == ["d", "d/e", "d/g"]
        assert snapshotter.usage(name).size_bytes < 16384
        make(snapshotter, "child", name, lambda root: edit_tree(root, [("remove", "d/g")]))
        assert sorted(mounted_state(snapshotter, "child")) == ["d", "d/e"]
        assert [c.path for c in snapshotter.changes("child", name)] == [b"d/g"]
        assert sorted(mounted_state(snapshotter, a)) == ["d", "d/g"]
        assert sorted(mounted_state(snapshotter, b)) == ["d", "d/e"]

    def test_what_a_child_writes_does_not_reach_the_inputs(self, snapshotter: Snapshotter) -> None:
        a, a_layers = self.chain(snapshotter, [[("file", "h")]])
        _, b_layers = self.chain(snapshotter, [[("file", "d")]])
        name = self.stacked(snapshotter, [*a_layers, *b_layers])
        before = mounted_state(snapshotter, a)

        def edit(root: Path) -> None:
            with open(root / "h", "a") as file:
                file.write("more")
            (root / "h").chmod(0o600)

        make(snapshotter, "child", name, edit)
        assert mounted_state(snapshotter, a) == before
        assert mounted_state(snapshotter, name)["h"] == before["h"]

    def test_links_of_a_layer_stay_links(self, snapshotter: Snapshotter) -> None:
        def edit(root: Path) -> None:
            (root / "one").write_text("one")
            os.link(root / "one", root / "two")

        make(snapshotter, "linked", None, edit)
        _, layers = self.chain(snapshotter, [[("file", "d")]])
        name = self.stacked(snapshotter, [*layers, LayerOf("linked", None)])
        with snapshotter.mount(name, readonly=True) as root:
            assert (root / "one").samefile(root / "two")

    def test_a_file_in_the_way_of_deletions_does_not_show_them(
        self, snapshotter: Snapshotter
    ) -> None:
        _, layers = self.chain(
            snapshotter, [[("file", "d/e"), ("file", "d/g")], [("remove", "d/e")]]
        )
        _, other = self.chain(snapshotter, [[("file", "d")]])
        name = self.stacked(snapshotter, [*other, layers[1]])
        with snapshotter.mount(name, readonly=True) as root:
            assert os.listdir(root / "d") == []

    @_laws
    @given(chains=st.lists(_CHAIN, min_size=1, max_size=3))
    @example(chains=[[[("file", "d/g")]], [[("file", "d/e")], [("remove", "d/e")]]])
    @example(chains=[[[("file", "d/g")]], [[("file", "h")], [("again", "d")]]])
    def test_a_stack_is_what_unpacking_its_layers_gives(
        self, snapshotter: Snapshotter, chains: list[Chain]
    ) -> None:
        layers = [layer for chain in chains for layer in self.chain(snapshotter, chain)[1]]
        for some in (layers, [*layers, *layers[:2]], layers[1:]):
            name = self.stacked(snapshotter, some)
            assert mounted_state(snapshotter, name) == unpacked_state(snapshotter, some)

    @_laws
    @given(lower=_CHAIN, upper=_CHAIN)
    @example(lower=[[("file", "d/e")]], upper=[[("file", "d")]])
    def test_a_diff_on_its_lower_gives_the_upper(
        self, snapshotter: Snapshotter, lower: Chain, upper: Chain
    ) -> None:
        a, a_layers = self.chain(snapshotter, lower)
        b, b_layers = self.chain(snapshotter, upper)
        for layer in (LayerOf(b, a), LayerOf(None, a)):
            name = self.stacked(snapshotter, [*a_layers, layer])
            expected = {} if layer.upper is None else mounted_state(snapshotter, b)
            assert mounted_state(snapshotter, name) == expected
            alone = self.stacked(snapshotter, [layer])
            assert mounted_state(snapshotter, alone) == unpacked_state(snapshotter, [layer])
        stack = self.stacked(snapshotter, [*a_layers, *b_layers])
        again = self.stacked(snapshotter, [*a_layers, LayerOf(stack, a)])
        assert mounted_state(snapshotter, again) == mounted_state(snapshotter, stack)

    @_laws
    @given(chain=_CHAIN)
    def test_a_tree_does_not_differ_from_itself(
        self, snapshotter: Snapshotter, chain: Chain
    ) -> None:
        name, layers = self.chain(snapshotter, chain)
        assert list(snapshotter.changes(name, name)) == []
        assert list(snapshotter.changes(self.stacked(snapshotter, layers), name)) == []
