"""Files that lie where the build file lies: includes, lock files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torana.core.errors import NotFoundError
from torana.core.llb.definition import Definition
from torana.core.llb.ops import SourceOp
from torana.core.llb.state import local

if TYPE_CHECKING:
    from torana.frontends.kit.context import BuildContext
    from torana.gateway.client.client import Reference

_LOCAL: Final = "local://"


async def read_beside(context: BuildContext, path: str) -> tuple[bytes, Definition] | None:
    """Read a file of the folder or tree that the build file is in; None if there is none.

    Gives its bytes with the definition that loads it. `path` is relative to that tree's root.
    """
    definition = context.file.definition or Definition()
    reference: Reference | None = context.file_reference
    name = _local_name(definition)
    if name is not None:  # only what was asked for was sent
        state = local(
            name,
            session_id=context.session_of(name),
            follow_paths=(path,),
            shared_key_hint=f"{name}-{path}",
            differ_none=True,
            custom_name=f"[internal] load {path}",
        )
        definition = context.marshal(state)
        reference = await context.solve(state)
    assert reference is not None
    try:
        return await reference.read_file(path), definition
    except NotFoundError:
        return None


def _local_name(definition: Definition) -> str | None:
    """Give the name of the client's folder that a definition consists of."""
    if len(definition.ops) != 2:
        return None
    kind = next(iter(definition.decoded().values())).kind
    is_local = isinstance(kind, SourceOp) and kind.identifier.startswith(_LOCAL)
    return kind.identifier.removeprefix(_LOCAL) if is_local else None  # type: ignore[union-attr]  # a source, by then
