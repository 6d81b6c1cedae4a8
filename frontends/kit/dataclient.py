"""`DataClient`: what clients without an engine have in common: they answer, and nothing is run.

`OfflineClient` reads folders of this machine; the gateway of tests has all as data.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from torana.core.errors import UnsupportedError
from torana.core.llb.definition import Definition
from torana.core.oci.platform import Platform
from torana.gateway.client.client import ResolvedImage, ResolvedSource, Worker

if TYPE_CHECKING:
    from torana.gateway.client.containers import Container, ContainerSpec

_IMAGES = ("docker-image://", "oci-layout://")


class DataClient(ABC):
    """Subclasses say what they are (`refusal`, `worker`) and look images up."""

    __slots__ = ()

    refusal: ClassVar[str] = "there is no engine here"

    @property
    @abstractmethod
    def worker(self) -> Worker: ...

    @property
    def workers(self) -> Sequence[Worker]:
        return (self.worker,)

    async def inputs(self) -> Mapping[str, Definition]:
        return {}

    @abstractmethod
    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage: ...

    def modified_of(self, identifier: str) -> int | None:
        """Give when a download was changed, in seconds since the Unix epoch."""
        return None

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> ResolvedSource:
        """Give what is known of a source: the image of one, the time of a download."""
        image = None
        if identifier.startswith(_IMAGES):
            image = await self.resolve_image(identifier.partition("://")[2], platform=platform)
        return ResolvedSource(
            identifier=identifier,
            attrs=attrs,
            image=image,
            http_last_modified=self.modified_of(identifier),
        )

    async def new_container(self, spec: ContainerSpec) -> Container:
        raise UnsupportedError(self.refusal)


def part(data: bytes, offset: int, length: int | None) -> bytes:
    """Give a part of a file, as `Reference.read_file` does."""
    return data[offset:] if length is None else data[offset : offset + length]
