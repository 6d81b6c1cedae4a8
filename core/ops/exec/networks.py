"""Network namespaces of containers: what provides them, and opening one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torana.core.llb.ops import ExecOp, NetMode
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.core.ops.exec.services import StepServices


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """A namespace that a container joins; `nameservers` are those that it reaches, if told."""

    path: Path
    nameservers: tuple[str, ...] = ()


class NetworkProvider(Protocol):
    """Makes network namespaces that reach the world, but not the host's own loopback."""

    @property
    def name(self) -> str: ...

    def open(
        self, id: str, directory: Path, hostname: str
    ) -> AbstractAsyncContextManager[NetworkNamespace | None]:
        """Make a namespace that stays while entered; None: the container shares the host's.

        `directory` is the container's, for files.

        Raises:
            RuntimeFailedError: it cannot be had.
        """
        ...


async def open_network(
    op: ExecOp, services: StepServices, id: str, directory: Path, stack: AsyncExitStack
) -> NetworkNamespace | None:
    """Make the namespace of a container that asks for no network in particular."""
    if services.network is None or op.network is not NetMode.UNSET:
        return None
    hostname = "" if op.meta is None else op.meta.hostname
    return await stack.enter_async_context(services.network.open(id, directory, hostname))
