"""`CacheBackendSuite`: what every place for build caches must do.

`InlineCacheSuite` is for those that write into the config of the exported image.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from torana.core.cache.layers import Layer
from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError, ToranaError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.remotecache.backend import InlineCacheWriter
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.config import (
    CacheConfig,
    CacheInput,
    CacheLayer,
    CacheRecord,
    CacheResult,
)
from torana.core.remotecache.imported import FoundCache
from torana.core.remotecache.inline import MEMBER, read_member
from torana.plugins.cachebackend import CacheBackend, CacheContext

T = TypeVar("T")
Attributes = Mapping[str, str]
OpenContext = Callable[[ContentStore], CacheContext]

_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


class QuietCacheProgress:
    """Takes what a backend reports; `warnings` are kept."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def status(
        self, id: str, *, name: str = "", current: int = 0, total: int = 0, done: bool = False
    ) -> None:
        """Show nothing."""

    def log(self, stream: int, data: bytes) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class CacheBackendSuite:
    """Subclasses have the fixtures `backend`, `open_context`, `writing` and `reading`.

    `open_context` gives what the engine lends, for a content store. `writing` are attributes of a
    place that is empty; `reading`, called when something was written, gives those to read it by.
    """

    def test_gives_back_what_was_written(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        reading: Callable[[Mapping[str, str]], Attributes],
        tmp_path: Path,
    ) -> None:
        first, second = (ContentStore(tmp_path / name) for name in ("first", "second"))
        cache, blobs = make_cache(first)

        async def work() -> Sequence[FoundCache]:
            answer = await write(backend, open_context(first), writing, cache)
            found = await read(backend, open_context(second), reading(answer))
            for each in found:
                for layer in each.layers.values():
                    await each.blobs.check(layer.blob)
                    await asyncio.wrap_future(each.blobs.provider().fetch(layer.blob))
            return found

        (found,) = run(work())
        assert found.config == cache.config
        for digest, data in blobs.items():
            layer, original = found.layers[digest], cache.layers[digest]
            assert second.read(digest) == data
            assert layer.blob.size == len(data)
            assert layer.diff_id == original.diff_id
            assert (layer.created, layer.description) == (original.created, original.description)

    def test_layers_stay_there_until_they_are_wanted(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        reading: Callable[[Mapping[str, str]], Attributes],
        tmp_path: Path,
    ) -> None:
        first, second = (ContentStore(tmp_path / name) for name in ("first", "second"))
        cache, blobs = make_cache(first)

        async def work() -> None:
            answer = await write(backend, open_context(first), writing, cache)
            await read(backend, open_context(second), reading(answer))

        run(work())
        assert not set(second.digests()) & set(blobs)

    def test_writing_again_replaces(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        reading: Callable[[Mapping[str, str]], Attributes],
        tmp_path: Path,
    ) -> None:
        content = ContentStore(tmp_path / "content")
        caches = [make_cache(content, text)[0] for text in ("one", "two")]

        async def work() -> Sequence[FoundCache]:
            answer: Mapping[str, str] = {}
            for cache in caches:
                answer = await write(backend, open_context(content), writing, cache)
            return await read(backend, open_context(content), reading(answer))

        (found,) = run(work())
        assert found.config == caches[1].config

    def test_a_cache_without_layers_is_not_written(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        tmp_path: Path,
    ) -> None:
        content = ContentStore(tmp_path / "content")
        records = (CacheRecord(digest=Digest.of_text("root")),)
        cache = ExportedCache(config=CacheConfig(records=records), layers={})
        assert run(write(backend, open_context(content), writing, cache)) == {}

    def test_a_layer_that_is_gone_is_told(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        reading: Callable[[Mapping[str, str]], Attributes],
        tmp_path: Path,
    ) -> None:
        content = ContentStore(tmp_path / "content")
        cache, _ = make_cache(content)
        missing = Descriptor(media_type=_TYPE, digest=Digest.of_text("gone"), size=4)

        async def work() -> None:
            answer = await write(backend, open_context(content), writing, cache)
            (found,) = await read(backend, open_context(content), reading(answer))
            with pytest.raises(ToranaError):
                await found.blobs.check(missing)
            with pytest.raises(ToranaError):
                await asyncio.wrap_future(found.blobs.provider().fetch(missing))

        run(work())

    def test_a_layer_that_cannot_be_had_fails_the_export(
        self,
        backend: CacheBackend,
        open_context: OpenContext,
        writing: Attributes,
        tmp_path: Path,
    ) -> None:
        content = ContentStore(tmp_path / "content")
        cache, blobs = make_cache(content)
        content.delete(next(iter(blobs)))
        with pytest.raises(ToranaError):
            run(write(backend, open_context(content), writing, cache))

    def test_options_are_required(
        self, backend: CacheBackend, open_context: OpenContext, tmp_path: Path
    ) -> None:
        context = open_context(ContentStore(tmp_path / "content"))
        with pytest.raises(ToranaError):
            backend.writer({}, context)
        with pytest.raises(ToranaError):
            backend.reader({}, context)


class InlineCacheSuite:
    """Subclasses have the fixture `backend`, and may have `writing`: attributes of an export."""

    @pytest.fixture
    def writing(self) -> Attributes:
        return {}

    @pytest.fixture
    def writer(
        self, backend: CacheBackend, writing: Attributes, tmp_path: Path
    ) -> InlineCacheWriter:
        made = backend.writer(writing, _without_layouts(tmp_path))
        assert isinstance(made, InlineCacheWriter)
        return made

    def test_images_are_imported_with_what_was_written(
        self, writer: InlineCacheWriter, tmp_path: Path
    ) -> None:
        cache, _ = make_cache(ContentStore(tmp_path / "content"))
        member = writer.member(cache, list(cache.layers.values()))
        assert member is not None
        assert member[0] == MEMBER
        read = read_member(member[1], list(cache.layers))
        assert read.sorted() == cache.config

    def test_writes_the_same_again(self, writer: InlineCacheWriter, tmp_path: Path) -> None:
        cache, _ = make_cache(ContentStore(tmp_path / "content"))
        image = list(cache.layers.values())
        assert writer.member(cache, image) == writer.member(cache, image)

    def test_layers_of_other_images_are_not_spoken_of(
        self, writer: InlineCacheWriter, tmp_path: Path
    ) -> None:
        content = ContentStore(tmp_path / "content")
        (cache, _), (other, _) = (make_cache(content, text) for text in ("one", "two"))
        assert writer.member(cache, list(other.layers.values())) is None
        assert writer.member(cache, ()) is None

    def test_is_no_place_to_read_from(self, backend: CacheBackend, tmp_path: Path) -> None:
        with pytest.raises(ToranaError):
            backend.reader({}, _without_layouts(tmp_path))


def _without_layouts(folder: Path) -> CacheContext:
    return CacheContext(content=ContentStore(folder / "lent"), layouts=_NoLayouts())


class _NoLayouts:
    """A `ClientLayouts` of a client without folders."""

    is_lasting = False

    def origin(self, folder: str) -> NoReturn:
        raise NotFoundError(f"no folder is called `{folder}`")

    async def put(self, folder: str, blob: Descriptor, content: ContentStore) -> None:
        self.origin(folder)


def make_cache(
    content: ContentStore, text: str = "text"
) -> tuple[ExportedCache, dict[Digest, bytes]]:
    """Make two layers on each other, in `content`, and a cache that has them; gives their bytes."""
    layers = [_layer(content, f"{text} {number}") for number in range(2)]
    config = CacheConfig(
        layers=(
            CacheLayer(layers[0].descriptor.digest),
            CacheLayer(layers[1].descriptor.digest, 0),
        ),
        records=(
            CacheRecord(digest=Digest.of_text(f"root of {text}")),
            CacheRecord(
                digest=Digest.of_text(f"op of {text}"),
                inputs=((CacheInput(0, str(Digest.of_text("selector"))),),),
                results=(CacheResult(1, 1700000001.25),),
            ),
        ),
    )
    by_blob = {layer.descriptor.digest: layer for layer in layers}
    blobs = {digest: content.read(digest) for digest in by_blob}
    return ExportedCache(config=config.sorted(), layers=by_blob), blobs


def _layer(content: ContentStore, text: str) -> Layer:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    data = gzip.compress(packed.getvalue(), mtime=0)
    return Layer(
        descriptor=Descriptor(media_type=_TYPE, digest=content.add(data), size=len(data)),
        diff_id=Digest.of(packed.getvalue()),
        created=1700000000.5,
        description=f"RUN {text}",
    )


async def write(
    backend: CacheBackend, context: CacheContext, attrs: Attributes, cache: ExportedCache
) -> Mapping[str, str]:
    """Write a cache."""
    writer = backend.writer(attrs, context)
    assert not isinstance(writer, InlineCacheWriter), "an image is needed to write it"
    return await writer.write(cache, QuietCacheProgress())


async def read(
    backend: CacheBackend, context: CacheContext, attrs: Attributes
) -> Sequence[FoundCache]:
    """Read caches."""
    return await backend.reader(attrs, context).read(QuietCacheProgress())


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop of its own."""
    return asyncio.run(work)
