"""Which snapshotter works here: found out by a real mount, not by guessing from versions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final, Protocol

from torana.core.errors import UnsupportedError, UserError
from torana.core.records import dataclass
from torana.core.snapshots import mounts
from torana.core.snapshots.fuseoverlay import FuseOverlaySnapshotter, why_no_fuse
from torana.core.snapshots.native import NativeSnapshotter
from torana.core.snapshots.overlay import OverlaySnapshotter
from torana.core.snapshots.snapshotter import Snapshotter

NAMES: Final = ("auto", "overlay", "fuse-overlayfs", "native")


@dataclass(frozen=True, slots=True)
class Choice:
    """A snapshotter and why it was taken."""

    snapshotter: Snapshotter
    reason: str


class MakeSnapshotter(Protocol):
    """Makes the snapshotter of a store; `is_mapped_user`: in a user namespace of its own."""

    def __call__(self, root: Path, *, is_mapped_user: bool) -> Choice: ...


def choose(root: Path, *, wanted: str = "auto", is_mapped_user: bool = False) -> Choice:
    """Make the snapshotter for `<root>/snapshots/<name>`.

    The kernel's overlay where it works, else fuse-overlayfs where that is installed and works, else
    native.

    Raises:
        UserError: `wanted` is unknown, or an overlay where those do not work.
    """
    if wanted not in NAMES:
        raise UserError(f"unknown snapshotter: `{wanted}`", hint=f"known: {', '.join(NAMES)}")
    if wanted == "native":
        return Choice(NativeSnapshotter(root / "snapshots" / "native"), "asked for")
    refused: list[str] = []
    if wanted in ("auto", "overlay"):
        options = (
            ("userxattr",) if is_mapped_user else ("index=off", "redirect_dir=off", "metacopy=off")
        )
        problem = why_no_overlay(root, options)
        if problem is None:
            folder = root / "snapshots" / "overlay"
            return Choice(OverlaySnapshotter(folder, options=options), "overlay mounts work")
        refused.append(f"overlay mounts do not work here: {problem}")
    if wanted in ("auto", "fuse-overlayfs"):
        problem = why_no_fuse_overlay(root)
        if problem is None:
            reason = "; ".join(refused) or "asked for; its start test passed"
            return Choice(FuseOverlaySnapshotter(root / "snapshots" / "fuse-overlayfs"), reason)
        refused.append(f"fuse-overlayfs does not work here: {problem}")
    if wanted != "auto":
        raise UserError(refused[0])
    return Choice(NativeSnapshotter(root / "snapshots" / "native"), "; ".join(refused))


def why_no_fuse_overlay(root: Path) -> str | None:
    """Mount by fuse-overlayfs, write and delete; gives what went wrong, None if nothing."""
    problem = why_no_fuse()
    if problem is not None:
        return problem
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuse-test-", dir=root) as text:
        tested = FuseOverlaySnapshotter(Path(text) / "fuse-overlayfs")
        try:
            tested.prepare("base", None)
            with tested.mount("base", readonly=False) as tree:
                (tree / "deleted").touch()
            tested.commit("base", "base")
            tested.prepare("test", "base")
            with tested.mount("test", readonly=False) as tree:
                (tree / "deleted").unlink()
                (tree / "made").touch()
        except UnsupportedError as err:
            return err.message
        except OSError as err:
            return (err.strerror or str(err)).lower()
        finally:
            tested.close()
    return None


def why_no_overlay(root: Path, options: tuple[str, ...]) -> str | None:
    """Mount an overlay, write and delete through it; gives what went wrong, None if nothing."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="overlay-test-", dir=root) as text:
        folder = Path(text)
        for name in ("lower", "upper", "work", "merged"):
            (folder / name).mkdir()
        (folder / "lower" / "deleted").touch()
        (folder / "lower" / "replaced").mkdir()
        target = str(folder / "merged")
        try:
            mounts.mount_overlay(
                target,
                [str(folder / "lower")],
                upper=str(folder / "upper"),
                work=str(folder / "work"),
                options=options,
            )
        except OSError as err:
            return (err.strerror or str(err)).lower()
        try:
            os.unlink(folder / "merged" / "deleted")
            os.rmdir(folder / "merged" / "replaced")
            os.mkdir(folder / "merged" / "replaced")  # needs extended attributes
        except OSError as err:
            return f"deleting and replacing: {(err.strerror or str(err)).lower()}"
        finally:
            mounts.unmount(target)
    return None
