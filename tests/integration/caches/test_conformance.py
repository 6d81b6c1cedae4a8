"""The published suite for places of caches, on a registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.integration.registry.servers import FaultyRegistry

from torana.core.content.store import ContentStore
from torana.gateway.engines.clientcaches import FolderLayouts
from torana.plugins.cachebackend import CacheBackend, CacheContext
from torana.plugins.manager import PluginManager
from torana.plugins.testing.caches import CacheBackendSuite, OpenContext


class TestRegistry(CacheBackendSuite):
    builtins = ("registry",)

    @pytest.fixture
    def backend(self) -> CacheBackend:
        return PluginManager().cache_backend("registry", action="exporter")

    @pytest.fixture
    def open_context(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenContext:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))

        def open_one(content: ContentStore) -> CacheContext:
            return CacheContext(content=content, layouts=FolderLayouts({}))

        return open_one

    @pytest.fixture
    def writing(self, faulty: FaultyRegistry) -> Mapping[str, str]:
        return {"ref": f"{faulty.host}/some/cache:main"}

    @pytest.fixture
    def reading(
        self, writing: Mapping[str, str]
    ) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
        return lambda answer: writing
