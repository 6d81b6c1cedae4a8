"""`Runtimes`: the same build in several runtimes, whose LLB must be the same.

The one module of the kit that knows the runners: it is there for tests alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from torana.core.records import dataclass
from torana.frontends.kit.testing.built import Built
from torana.frontends.kit.testing.gateway import FakeGateway

_BUILDKIT: Final = "TORANA_TEST_BUILDKIT"
_SESSION: Final = re.compile(r"local\.session=\S+")


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Where builds are tried; `buildkit` is an address as `torana build --addr` takes it."""

    buildkit: str = ""

    @classmethod
    def from_environment(cls) -> Runtimes:
        return cls(os.environ.get(_BUILDKIT, ""))

    def build(self, gateway: FakeGateway, name: str, text: str, **opts: str) -> Built:
        """Build with the installed frontend `name` everywhere, and give what came out.

        A BuildKit only takes part where no image or download is needed but what it has itself.

        Raises:
            AssertionError: runtimes differ.
        """
        return asyncio.run(self._build(gateway, name, text, opts))

    async def _build(
        self, gateway: FakeGateway, name: str, text: str, opts: Mapping[str, str]
    ) -> Built:
        from torana.plugins.manager import PluginManager

        frontend = PluginManager().frontend(name)
        built = await gateway.building(frontend, text, **opts)
        child = await gateway.building(_Child(name, frontend), text, **opts)
        _assert_same("in a subprocess", built, child)
        if self.buildkit:
            remote = await self._on_buildkit(gateway, name, frontend, text, opts)
            _assert_same_text(f"on {self.buildkit}", built, remote)
        return built

    async def _on_buildkit(
        self,
        gateway: FakeGateway,
        name: str,
        frontend: Any,
        text: str,
        opts: Mapping[str, str],
    ) -> Built:
        from torana.gateway.engines.engine import BuildRequest
        from torana.gateway.engines.remote.engine import RemoteEngine

        filename = gateway.options_of(frontend, opts)["filename"]
        with tempfile.TemporaryDirectory() as folder, _written(gateway, folder, filename, text):
            request = BuildRequest(
                frontend=name,
                options={**gateway.options_of(frontend, opts), "cmdline": name},
                local_dirs={each: Path(folder, each) for each in {"dockerfile", *gateway.contexts}},
            )
            async with RemoteEngine.open(self.buildkit) as engine:
                definition = await engine.translate(request)
        return Built({"": definition} if definition is not None else {}, {})


@dataclass(frozen=True, slots=True)
class _Child:
    """An installed frontend in a process of its own, for a gateway of tests."""

    name: str
    frontend: Any

    @property
    def filename(self) -> str:
        return str(getattr(self.frontend, "filename", "Dockerfile"))

    async def build(self, client: Any) -> Any:
        from torana.gateway.runners.child import ChildFrontend

        return await ChildFrontend(self.name).build(_Host(client))


class _Host:
    """A gateway that also shows what a process writes."""

    def __init__(self, client: FakeGateway) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @contextlib.contextmanager
    def vertex(self, name: str) -> Iterator[Any]:
        def write(stream: int, data: bytes) -> None:
            os.write(2, data)

        yield write


def _assert_same(where: str, one: Built, other: Built) -> None:
    _assert_same_text(where, one, other)
    for key, definition in one.definitions.items():
        assert definition.ops == other.definitions[key].ops, f"other bytes {where}"


def _assert_same_text(where: str, one: Built, other: Built) -> None:
    texts = [_SESSION.sub("local.session=", built.text()) for built in (one, other)]
    assert texts[0] == texts[1], f"other LLB {where}"


@contextlib.contextmanager
def _written(gateway: FakeGateway, folder: str, filename: str, text: str) -> Iterator[None]:
    """Write what the gateway offers to real folders."""
    everything = {**gateway.contexts}
    everything["dockerfile"] = {**everything.get("dockerfile", {}), filename: text}
    for name, files in everything.items():
        for path, data in files.items():
            place = Path(folder, name, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data.encode() if isinstance(data, str) else data)
    yield
