"""What `fetch` and `git` steps copy: trees from elsewhere."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from torana.core.llb.actions import FileActions
from torana.core.llb.state import git, http, scratch
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.yaml import model as m
from torana.frontends.yaml.destinations import chown, destination


def fetched(
    step: m.Fetch, workdir: str, shown: Mapping[str, Any], need: Callable[[str, str, str], None]
) -> FileActions:
    """Download, and copy or unpack; `need` checks a capability of the engine (cap, what, hint)."""
    filename = posixpath.basename(step.url.split("?", 1)[0].split("#", 1)[0]) or "file"
    tree = http(
        step.url,
        filename=filename,
        checksum=step.checksum,
        auth_header_secret=step.auth,
        custom_name=shown["custom_name"],
        location=shown["location"],
    )
    to = destination(workdir, step.to)
    common: dict[str, Any] = {"owner": chown(step.owner), "create_dest_path": True}
    if not step.unpacks:
        mode = 0o644 if step.mode is None else step.mode
        return FileActions().copy(tree, f"/{filename}", to, mode=mode, **common)
    if not step.strip and not step.only:
        return FileActions().copy(
            tree, f"/{filename}", to, mode=step.mode, attempt_unpack=True, **common
        )
    unpacked = scratch().file(
        FileActions().copy(tree, f"/{filename}", "/", attempt_unpack=True, create_dest_path=True),
        **shown,
    )
    if step.only:
        need("file.copy.includeexcludepatterns", "unpack parts of an archive", "unpack all")
        chosen = FileActions().copy(
            unpacked, "/", "/", include=step.only, dir_copy_contents=True, create_dest_path=True
        )
        unpacked = scratch().file(chosen, **shown)
    return FileActions().copy(
        unpacked,
        "/" + "/".join("*" * step.strip),
        to,
        mode=step.mode,
        dir_copy_contents=True,
        allow_wildcard=True,
        allow_empty_wildcard=bool(step.only),
        **common,
    )


def checked_out(step: m.Git, workdir: str, shown: Mapping[str, Any]) -> FileActions:
    """Check a git repository out, and copy it.

    Raises:
        BuildFileError: the address is none of a repository.
    """
    ref = parse_git_ref(step.url)
    if ref is None:
        raise step.place.mark.error(
            f"not the address of a git repository: `{step.url}`",
            hint="of https and http, it ends in .git",
        )
    agent = step.agent or ("default" if ref.is_ssh else "")
    tree = git(
        ref.path,
        url=ref.url,
        ref=step.ref or step.commit,
        subdir=step.subdir,
        keep_git_dir=step.keeps_git_dir,
        checksum=step.commit if step.ref else "",
        skip_submodules=not step.has_submodules,
        auth_header_secret=step.auth,
        mount_ssh_sock=agent,
        custom_name=shown["custom_name"],
        location=shown["location"],
    )
    to = destination(workdir, step.to)
    return FileActions().copy(tree, "/", to, dir_copy_contents=True, create_dest_path=True)
