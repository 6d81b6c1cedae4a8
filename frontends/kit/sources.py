"""Source states from addresses: git references and downloads."""

from __future__ import annotations

from typing import Final

from torana.core.llb.state import State, git, http
from torana.frontends.kit.gitref import GitRef

LOAD_REMOTE: Final = "[internal] load remote build context"
_MAGIC: Final = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00")


def git_state(
    ref: GitRef,
    *,
    name: str,
    keep_git_dir: bool | None = None,
    checksum: str = "",
    mtime: str = "",
) -> State:
    """Give the checkout of `ref`; what is given here fills what the reference leaves open."""
    return git(
        ref.path,
        url=ref.url,
        ref=ref.ref,
        subdir=ref.subdir,
        keep_git_dir=bool(keep_git_dir if ref.keep_git_dir is None else ref.keep_git_dir),
        checksum=ref.checksum or checksum,
        skip_submodules=ref.submodules is False,
        mtime=ref.mtime or mtime,
        fetch_by_commit=bool(ref.fetch_by_commit),
        mount_ssh_sock="default" if ref.is_ssh else "",
        custom_name=name,
    )


def http_context(url: str, name: str = LOAD_REMOTE) -> State:
    """Give a download as the one file `context`."""
    return http(url, filename="context", custom_name=name)


def is_archive(head: bytes) -> bool:
    """Say whether a file that begins with `head` is a tar archive, compressed or not."""
    if head.startswith(_MAGIC):
        return True
    import tarfile

    if len(head) < tarfile.BLOCKSIZE:
        return False
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
