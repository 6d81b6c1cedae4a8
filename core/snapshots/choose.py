"""Which snapshotter works here: found out by a real mount, not by guessing from versions."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Protocol

from torana.core.errors import UserError
from torana.core.records import dataclass
from torana.core.snapshots import mounts
from torana.core.snapshots.native import NativeSnapshotter
from torana.core.snapshots.overlay import OverlaySnapshotter
from torana.core.snapshots.snapshotter import Snapshotter


@dataclass(frozen=True, slots=True)
class Choice:
    """A snapshotter and why it was taken."""

    snapshotter: Snapshotter
    reason: str


class MakeSnapshotter(Protocol):
    """Makes the snapshotter of a store; `is_mapped_user`: in a user namespace of its own."""

    def __call__(self, root: Path, *, is_mapped_user: bool) -> Choice: ...


def choose(root: Path, *, wanted: str = "auto", is_mapped_user: bool = False) -> Choice:
    """Make the snapshotter for `<root>/snapshots/<name>`: overlay where it works, else native.

    Raises:
        UserError: `wanted` is unknown, or is `overlay` where overlays do not work.
    """
    if wanted not in ("auto", "overlay", "native"):
        raise UserError(f"unknown snapshotter: `{wanted}`", hint="known: auto, overlay, native")
    if wanted != "native":
        options = (
            ("userxattr",) if is_mapped_user else ("index=off", "redirect_dir=off", "metacopy=off")
        )
        problem = why_no_overlay(root, options)
        if problem is None:
            folder = root / "snapshots" / "overlay"
            return Choice(OverlaySnapshotter(folder, options=options), "overlay mounts work")
        if wanted == "overlay":
            raise UserError(f"overlay mounts do not work here: {problem}")
        reason = f"overlay mounts do not work here: {problem}"
    else:
        reason = "asked for"
    return Choice(NativeSnapshotter(root / "snapshots" / "native"), reason)


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
