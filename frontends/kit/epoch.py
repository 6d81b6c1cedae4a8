"""SOURCE_DATE_EPOCH: a number, or a source whose time it is: of a commit, a download, an archive.

Spec: conversion reference, section 10.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from torana.core.errors import UserError
from torana.core.llb.ops import SourceOp
from torana.core.llb.state import State, source

if TYPE_CHECKING:
    from torana.frontends.kit.context import BuildContext

_COMMITTER: Final = re.compile(rb"^committer .* (-?[0-9]+) [+-][0-9]{4}$", re.M)
EPOCH: Final = "SOURCE_DATE_EPOCH"  # the build argument
RESOLVE: Final = "[internal] resolve SOURCE_DATE_EPOCH"
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_MAIN: Final = "[internal] resolve main build context metadata"
_FILENAME: Final = "http.filename"


class InvalidEpochError(UserError):
    """Neither a number nor something that has a time."""

    code = "EPOCH_INVALID"


def rfc3339(seconds: int) -> str:
    """Write a time as image configs have it."""
    import datetime

    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


async def resolve_epoch(
    text: str, context: BuildContext, otherwise: Callable[[str], State | None] | None = None
) -> int | None:
    """Give the seconds that `text` stands for; None where nothing has a time.

    That is a number, `context`, the name of a named context, or what `otherwise` gives a tree for.

    Raises:
        InvalidEpochError: it stands for nothing.
        NamedContextError: it cannot be the name of a context.
    """
    if _NUMBER.fullmatch(text):
        return int(text)
    if text == "context":
        return await main_epoch(context)
    named = await context.named(text, None)
    if named is not None:
        return await source_epoch(context, named.state(), f"{RESOLVE} named context {text}")
    state = None if otherwise is None else otherwise(text)
    if state is None:
        raise InvalidEpochError(
            f"invalid {EPOCH}: {text}", hint="seconds since 1970, `context`, or a named context"
        )
    return await source_epoch(context, state, f"{RESOLVE} source stage {text.lower()}")


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
