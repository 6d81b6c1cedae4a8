"""The built-in places for caches, and what is wrong with caches that are read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from torana.core.content.store import ContentStore
from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.oci.digest import Digest
from torana.core.remotecache.config import CONFIG_TYPE
from torana.gateway.client.client import CacheImport
from torana.gateway.engines.cachefaults import CacheFaults
from torana.gateway.engines.caching import CacheExports, open_reader
from torana.gateway.engines.clientcaches import ClientCaches, FolderLayouts
from torana.gateway.session.layout import LayoutStore
from torana.plugins.cachebackend import CacheBackend, CacheContext, CacheOptionError
from torana.plugins.caches.local import LocalCaches
from torana.plugins.manager import PluginManager
from torana.plugins.testing.caches import (
    CacheBackendSuite,
    InlineCacheSuite,
    OpenContext,
    QuietCacheProgress,
    make_cache,
    write,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_context(folder: Path) -> OpenContext:
    stores = {f"local:{folder}": LayoutStore(folder, is_writable=True)}

    def open_one(content: ContentStore) -> CacheContext:
        return CacheContext(content=content, layouts=FolderLayouts(stores))

    return open_one


class TestLocal(CacheBackendSuite):
    builtins = ("local",)

    @pytest.fixture
    def backend(self) -> CacheBackend:
        return PluginManager().cache_backend("local", action="exporter")

    @pytest.fixture
    def writing(self, folder: Path) -> Mapping[str, str]:
        return {"dest": str(folder)}

    @pytest.fixture
    def reading(self, folder: Path) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
        def attributes(answer: Mapping[str, str]) -> Mapping[str, str]:
            digest = json.loads(answer["cache.manifest"])["digest"]
            return {"src": str(folder), "digest": digest}

        return attributes


class TestInline(InlineCacheSuite):
    builtins = ("inline",)

    @pytest.fixture
    def backend(self) -> CacheBackend:
        return PluginManager().cache_backend("inline", action="exporter")


# Options


def exports(tmp_path: Path, *wanted: CacheImport) -> CacheExports:
    context = CacheContext(content=ContentStore(tmp_path / "content"), layouts=FolderLayouts({}))
    return CacheExports.open(wanted, PluginManager(), context)


REF = {"ref": "registry.example/x"}
WRONG = {
    "unknown cache exporter": CacheImport(type="nowhere"),
    "registry cache exporter requires ref": CacheImport(type="registry"),
    "local cache exporter requires dest": CacheImport(type="local", attrs={"src": "/x"}),
    "OCI mediatypes are required": CacheImport(
        type="registry", attrs={**REF, "image-manifest": "true", "oci-mediatypes": "false"}
    ),
    "failed to parse image-manifest": CacheImport(
        type="registry", attrs={**REF, "image-manifest": "maybe"}
    ),
    "failed to parse ignore-error": CacheImport(
        type="registry", attrs={**REF, "ignore-error": "perhaps"}
    ),
    "unsupported layer compression": CacheImport(
        type="registry", attrs={**REF, "compression": "lzma"}
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_exports_fail_before_the_build(tmp_path: Path, message: str) -> None:
    with pytest.raises((UserError, NotFoundError), match=message):
        exports(tmp_path, WRONG[message])


def test_two_exports_to_one_place_are_refused(tmp_path: Path) -> None:
    one = CacheImport(type="registry", attrs=REF)
    with pytest.raises(CacheOptionError, match=r"duplicate cache exports \[registry\]"):
        exports(tmp_path, one, CacheImport(type="registry", attrs={**REF, "mode": "max"}))
    inline = CacheImport(type="inline")
    found = exports(tmp_path, one, inline, inline)
    assert len(found.places) == 1
    assert found.inline is not None


@pytest.mark.parametrize(
    "wanted",
    [
        CacheImport(type="nowhere"),
        CacheImport(type="inline"),
        CacheImport(type="registry"),
        CacheImport(type="local", attrs={"src": "/x"}),
        CacheImport(type="local", attrs={"src": "/x", "digest": "sha256:12"}),
    ],
)
def test_wrong_imports_are_errors(tmp_path: Path, wanted: CacheImport) -> None:
    context = CacheContext(content=ContentStore(tmp_path / "content"), layouts=FolderLayouts({}))
    with pytest.raises(ToranaError):
        open_reader(PluginManager(), context, CacheFaults(), wanted)


# The client's folders


def test_a_folder_that_is_not_there_is_not_imported(tmp_path: Path) -> None:
    warnings: list[str] = []
    wanted = CacheImport(type="local", attrs={"src": str(tmp_path / "nothing")})
    caches = ClientCaches.read([wanted, CacheImport(type="gha")], [], warnings.append)
    assert [each.type for each in caches.imports] == ["gha"]
    assert warnings == [
        f"local cache import at {tmp_path / 'nothing'} skipped: no digest found for tag latest"
    ]
    assert not (tmp_path / "nothing").exists()


def test_imports_are_told_to_frontends(tmp_path: Path) -> None:
    wanted = CacheImport(type="registry", attrs=REF)
    options = ClientCaches.read([wanted], [], pytest.fail).options()
    assert json.loads(options["cache-imports"]) == [{"Type": "registry", "Attrs": REF}]
    assert ClientCaches().options() == {}


def test_the_answer_of_another_place_gives_no_tag(folder: Path) -> None:
    """BuildKit answers with one manifest for all places."""
    wanted = [
        CacheImport(type="registry", attrs=REF),
        CacheImport(type="local", attrs={"dest": str(folder)}),
    ]
    caches = ClientCaches.read([], wanted, pytest.fail)
    manifest = {"mediaType": "x", "digest": Digest.of_text("elsewhere"), "size": 9}
    caches.finish({"cache.manifest": json.dumps(manifest)})
    assert not (folder / "index.json").exists()


# What is read


def read_damaged(
    folder: Path, open_context: OpenContext, tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> tuple[Any, list[str]]:
    """Read a cache whose manifest was changed by `damage`, which may give a config, too."""
    first = ContentStore(tmp_path / "first")
    cache, _ = make_cache(first)
    backend = LocalCaches()
    progress = QuietCacheProgress()

    async def work() -> Any:
        answer = await write(backend, open_context(first), {"dest": str(folder)}, cache)
        blobs = folder / "blobs/sha256"
        old = json.loads(answer["cache.manifest"])["digest"].partition(":")[2]
        manifest = json.loads((blobs / old).read_text())
        config = damage(manifest)
        if config is not None:
            digest = Digest.of(config)
            (blobs / digest.encoded).write_bytes(config)
            manifest["config"] |= {"digest": digest, "size": len(config)}
        data = json.dumps(manifest).encode()
        digest = Digest.of(data)
        (blobs / digest.encoded).write_bytes(data)
        context = open_context(ContentStore(tmp_path / "second"))
        reader = backend.reader({"src": str(folder), "digest": digest}, context)
        return await reader.read(progress)

    return asyncio.run(work()), progress.warnings


def test_layers_that_do_not_say_what_they_are_give_no_results(
    folder: Path, open_context: OpenContext, tmp_path: Path
) -> None:
    def damage(manifest: dict[str, Any]) -> None:
        for layer in manifest["layers"]:
            del layer["annotations"]["containerd.io/uncompressed"]

    (found,), _ = read_damaged(folder, open_context, tmp_path, damage)
    assert found.layers == {}


def test_an_image_without_a_cache_is_told(
    folder: Path, open_context: OpenContext, tmp_path: Path
) -> None:
    def damage(manifest: dict[str, Any]) -> bytes:
        manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
        return b"{}"

    found, warnings = read_damaged(folder, open_context, tmp_path, damage)
    assert list(found) == []
    assert any("no cache was exported" in text for text in warnings)


HUGE = 5 << 20

DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "config is no JSON": lambda manifest: b"nonsense",
    "config goes in circles": lambda manifest: (
        b'{"records":[{"digest":"%s","inputs":[[{"link":0}]]}]}' % Digest.of_text("x").encode()
    ),
    "config is huge": lambda manifest: b" " * HUGE,
    "config has another size": lambda manifest: manifest["config"].update(size=3),
    "config is not there": lambda manifest: manifest["config"].update(digest=Digest.of_text("x")),
    "digest of the config": lambda manifest: manifest["config"].update(digest="sha256:x"),
    "layers are no list": lambda manifest: manifest.update(layers=7),
    "a layer is no object": lambda manifest: manifest["layers"].append("x"),
    "a layer has no digest": lambda manifest: manifest["layers"][0].pop("digest"),
    "no config": lambda manifest: manifest.pop("config") and None,
    "no manifest": lambda manifest: manifest.clear(),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_caches_are_errors(
    folder: Path, open_context: OpenContext, tmp_path: Path, name: str
) -> None:
    def damage(manifest: dict[str, Any]) -> bytes | None:
        assert manifest["config"]["mediaType"] == CONFIG_TYPE
        found = DAMAGES[name](manifest)
        return found if isinstance(found, bytes) else None

    with pytest.raises(ToranaError, match=r"\S"):
        read_damaged(folder, open_context, tmp_path, damage)
    left = ContentStore(tmp_path / "second")
    assert left.abandoned() == []
