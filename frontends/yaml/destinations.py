"""Where steps put what they make, and whose it is."""

from __future__ import annotations

import posixpath

from torana.core.llb import ops as o
from torana.core.llb.actions import FileActions, mkdir, owner
from torana.frontends.yaml import model as m


def destination(workdir: str, to: str) -> str:
    """Give the absolute form of a destination; a folder keeps the slash that says so."""
    is_folder = to.endswith("/") or posixpath.basename(to) in (".", "..", "")
    path = absolute(workdir, to)
    return f"{path}/" if is_folder and path != "/" else path


def absolute(workdir: str, path: str) -> str:
    """Give a path of a step as seen from the root."""
    joined = posixpath.normpath(posixpath.join("/", workdir, path))
    return joined[1:] if joined.startswith("//") else joined


def parent(path: str) -> FileActions:
    """Make the folder that a path is in."""
    parent = posixpath.dirname(path)
    return FileActions() if parent == "/" else mkdir(parent, mode=0o755, make_parents=True)


def chown(who: m.Owner | None) -> o.ChownOpt | None:
    """Give who is to own what a step makes."""
    return None if who is None else owner(who.user, who.group)
