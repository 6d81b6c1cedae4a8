"""The `Exporter` protocol: what turns a build's result into files, images or archives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from torana.core.cache.imagelayers import ImageLayers
from torana.core.cache.layers import Layer, LayerForm, LayerStore
from torana.core.cache.ref import ImmutableRef
from torana.core.content.images import ImageStore
from torana.core.content.store import ContentStore
from torana.core.errors import UsageError, UserError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.platform import Platform
from torana.core.records import dataclass

if TYPE_CHECKING:
    from torana.plugins.registry.access import RegistryAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformResult:
    """One platform's share of a result; `ref` None is scratch, `config` is image config JSON."""

    id: str
    platform: Platform
    ref: ImmutableRef | None
    config: bytes | None = None
    base_config: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What a frontend made; `is_map` asks for an index even for one platform."""

    platforms: Sequence[PlatformResult]
    is_map: bool
    metadata: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def epoch(self) -> int | None:
        """SOURCE_DATE_EPOCH as the frontend understood it, seconds."""
        raw = self.metadata.get("source.date.epoch", b"")
        return int(raw) if raw else None

    @property
    def default_name(self) -> str:
        """Name for the image, where the user leaves it to the frontend."""
        return self.metadata.get("image.name", b"").decode("utf-8", "replace")


class Output(Protocol):
    """Where an exporter writes; nothing half-written is left at the user's path on failure."""

    def file(self, answer: Mapping[str, str] | None = None) -> AbstractContextManager[BinaryIO]:
        """Open the destination as one file (or standard output); it appears when left normally.

        `answer` is what the exporter will answer, as far as it is known: clients that are elsewhere
        may choose a name by it.
        """
        ...

    def directory(self) -> Path:
        """Give the destination folder, made if missing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTree:
    """Files to give out: those below `root`, or none at all.

    `prefix` is the name of the folder that they go into, or empty. With `epoch` all times are that.
    """

    root: Path | None
    prefix: str = ""
    epoch: int | None = None  # seconds


@runtime_checkable
class TreeOutput(Protocol):
    """An output whose folder is elsewhere: it takes trees, where others give a `directory`."""

    async def send_trees(self, trees: Sequence[OutputTree], *, deletes: bool) -> None:
        """Send `trees`, which do not have a file in common.

        With `deletes` the folder has nothing else afterwards.
        """
        ...


@runtime_checkable
class BlobOutput(Protocol):
    """An output that takes the blobs of an image; its client makes a layout of them."""

    async def put_blobs(self, blobs: Sequence[Descriptor], content: ContentStore) -> None: ...


class Progress(Protocol):
    """Counters below the export's vertex."""

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None: ...

    def warn(self, text: str) -> None: ...


InlineCacheOf = Callable[[str, Sequence[Layer], LayerForm], Awaitable["tuple[str, str] | None"]]
"""Gives name and value of a member for the config of an image: of one platform, by its id, with
these layers, base first, that were made in this form. None: nothing of the cache fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportContext:
    """What the engine lends to an exporter.

    What is put into `finish` runs after all exporters of the build have done their part, if none
    failed: what others can see from then on, such as a push, belongs there.
    """

    content: ContentStore
    images: ImageStore
    layers: LayerStore
    image_layers: ImageLayers
    platform: Platform  # that steps run on
    progress: Progress
    finish: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    registries: RegistryAccess | None = (
        None  # as the build's client has them; None: as this process
    )
    inline_cache: InlineCacheOf | None = None  # None: images get no cache


class ExportOptionError(UsageError):
    """An attribute of `--output` is missing or wrong."""

    code = "EXPORT_OPTION_INVALID"


class Exporter(Protocol):
    """A kind of export. Conformance: `torana.core.testing` and the tests of built-in exporters."""

    type: str
    title: str  # name of the vertex: "exporting to oci image format"

    async def export(
        self,
        result: ExportResult,
        attrs: Mapping[str, str],
        output: Output | None,
        context: ExportContext,
    ) -> Mapping[str, str]:
        """Write `result`; the returned map is the exporter's part of the build's response.

        Raises:
            UserError: an attribute is wrong, or the result does not fit the format.
        """
        ...


@runtime_checkable
class CheckingExporter(Exporter, Protocol):
    """An exporter that knows wrong attributes before there is a result."""

    def check(self, attrs: Mapping[str, str]) -> None:
        """Look at attributes, before the build runs; must not block.

        Raises:
            UserError: one is missing or wrong, whatever the result will be.
        """
        ...


def check_attributes(exporter: Exporter, attrs: Mapping[str, str]) -> None:
    """Refuse attributes that an exporter knows to be wrong.

    Raises:
        ExportOptionError: one is.
    """
    if not isinstance(exporter, CheckingExporter):
        return
    try:
        exporter.check(attrs)
    except UserError as err:
        raise ExportOptionError(err.message, hint=err.hint) from err
