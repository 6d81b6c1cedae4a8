"""Times of sources: of a commit, of a download, of the newest file in an archive."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from torana.core.llb.ops import SourceOp
from torana.core.llb.state import State, source

if TYPE_CHECKING:
    from torana.frontends.kit.context import BuildContext

_COMMITTER: Final = re.compile(rb"^committer .* (-?[0-9]+) [+-][0-9]{4}$", re.M)
_MAIN: Final = "[internal] resolve main build context metadata"
_FILENAME: Final = "http.filename"


async def main_epoch(context: BuildContext) -> int | None:
    """Give the time of the main context in seconds, None if it has none."""
    patterns = await context.ignore_patterns()
    return await source_epoch(context, context.main_state((), patterns), _MAIN)


async def source_epoch(context: BuildContext, state: State, log_name: str) -> int | None:
    """Give the time of a tree that comes from exactly one source, in seconds.

    A repository has the time of its commit; a download the one that its server says, else that of
    the newest file in it, if it is an archive. None: nothing has a time.
    """
    ops = context.marshal(state).decoded().values()
    sources = [op.kind for op in ops if isinstance(op.kind, SourceOp)]
    if len(sources) != 1:
        return None
    identifier, attrs = sources[0].identifier, sources[0].attrs
    found = await context.client.resolve_source(identifier, attrs, log_name=log_name)
    if found.git_commit_object is not None:
        match = _COMMITTER.search(found.git_commit_object)
        return int(match[1]) if match else None
    if found.http_last_modified is not None:
        return found.http_last_modified
    if not identifier.startswith(("http://", "https://")) or _FILENAME not in attrs:
        return None
    reference = await context.solve(source(identifier, attrs))
    assert reference is not None
    return _newest(await reference.read_file(attrs[_FILENAME]))


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
