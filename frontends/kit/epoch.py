"""Times of sources: of a commit, of a download, of the newest file in an archive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from torana.core.llb.state import State
from torana.core.llb.vertices import SourceVertex
from torana.frontends.kit.gitref import parse_git_ref
from torana.frontends.kit.sources import git_state, http_context, is_archive

if TYPE_CHECKING:
    from torana.frontends.kit.context import BuildContext

_COMMITTER: Final = re.compile(rb"^committer .* (-?[0-9]+) [+-][0-9]{4}$", re.M)
_MAIN: Final = "[internal] resolve main build context metadata"


async def main_epoch(context: BuildContext) -> int | None:
    """Give the time of the main context: of its commit, or of its download; seconds."""
    main = context.main
    if main.git is not None and main.file_state is not None:
        return await _source_epoch(context, main.file_state, _MAIN)
    if not main.url:
        return None
    found = await _source_epoch(context, http_context(main.url), _MAIN)
    if found is None and main.download is not None:
        return _newest(await main.download.read_file("context"))
    return found


async def url_epoch(context: BuildContext, url: str) -> int | None:
    """Give the time of a repository or a download."""
    ref = parse_git_ref(url)
    if ref is not None:
        return await _source_epoch(context, git_state(ref, name="", mtime="commit"), "")
    state = http_context(url)
    found = await _source_epoch(context, state, "")
    if found is not None:
        return found
    data = await context.read_optional(await context.solve(state), "context")
    return _newest(data) if data is not None and is_archive(data) else None


async def _source_epoch(context: BuildContext, state: State, log_name: str) -> int | None:
    assert state.output is not None
    vertex = state.output.vertex
    assert isinstance(vertex, SourceVertex)
    found = await context.client.resolve_source(vertex.identifier, vertex.attrs, log_name=log_name)
    if found.git_commit_object is not None:
        match = _COMMITTER.search(found.git_commit_object)
        return int(match[1]) if match else None
    return found.http_last_modified


def _newest(data: bytes) -> int | None:
    """Give the time of the newest regular file in a tar archive."""
    import io
    import tarfile

    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            times = [int(member.mtime) for member in archive if member.isreg()]
    except (tarfile.TarError, OSError, EOFError):
        return None
    return max(times, default=None)
