"""Frontend images: their processes run on the worker, and talk over standard input and output."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from tests.integration.gateway.conftest import SESSION, Events

from torana.core.cache.ref import Tree
from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.llb.definition import Definition
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.oci.image import OCI_CONFIG, OCI_MANIFEST, compact_json, manifest
from torana.core.ops.runtime import ContainerMount
from torana.core.ops.source import ImageMetadata, SourceKey, SourceRequest, SourceServices
from torana.core.solver.progress import LogEvent, VertexEvent
from torana.core.worker import Worker
from torana.frontends.kit.subrequests import UnsupportedFrontendCapError
from torana.gateway.bridge.containers import InProcessContainer
from torana.gateway.bridge.inprocess import InProcessClient
from torana.gateway.client.client import Result, SolveRequest
from torana.gateway.client.containers import ContainerSpec
from torana.gateway.engines.jobs import BuildParts, open_job
from torana.gateway.engines.runtime import chosen_runtime
from torana.gateway.runners.conversation import FrontendFailedError
from torana.gateway.runners.finder import FrontendFinder
from torana.gateway.runners.image import ImageFrontend
from torana.gateway.testing.clients import given_input
from torana.plugins.manager import PluginManager
from torana.plugins.selection import FrontendNotAllowedError

pytestmark = pytest.mark.needs("root", "busybox", "crun")
GO_FRONTEND = shutil.which("dockerfile-frontend")


class ImageSource:
    """Gives folders as images."""

    schemes: Sequence[str] = ("docker-image",)

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.requests: list[SourceRequest] = []  # of trees; the config costs nothing

    def open(self, request: SourceRequest, services: SourceServices) -> ImageInstance:
        folder = self.folders[request.rest.partition("@")[0]]
        return ImageInstance(folder, request, services, self.requests)


@dataclass
class ImageInstance:
    folder: Path
    request: SourceRequest
    services: SourceServices
    requests: list[SourceRequest]

    async def cache_key(self, index: int) -> SourceKey:
        return SourceKey(self.request.identifier)

    async def metadata(self) -> ImageMetadata:
        name = self.request.rest.partition("@")[0]
        stored = self.services.images.get(name)
        if stored is None:
            raise NotFoundError(f"{name}: not found")
        content = self.services.content
        document = json.loads(content.read(stored.target.digest))
        config = content.read(Digest(document["config"]["digest"]))
        return ImageMetadata(ref=name, digest=stored.target.digest, config=config)

    async def snapshot(self) -> Tree | None:
        self.requests.append(self.request)
        ref = await self.services.refs.new_mutable(None)
        with ref.mount() as path:
            shutil.copytree(self.folder, path, symlinks=True, dirs_exist_ok=True)
        return await ref.commit()


@dataclass
class Builder:
    """Makes images, and builds with them."""

    worker: Worker
    plugins: PluginManager
    source: ImageSource
    busybox_tree: Path
    events: Events
    local_dirs: dict[str, Path] = field(default_factory=dict)
    finder: FrontendFinder | None = None

    def image(self, name: str, folder: Path, **config: Any) -> None:
        """Name an image whose tree is `folder`."""
        document = compact_json({"architecture": "amd64", "os": "linux", "config": config})
        root = manifest(self._blob(OCI_CONFIG, document), [])
        self.worker.images.set(name, self._blob(OCI_MANIFEST, root))
        self.source.folders[name] = folder

    def _blob(self, media_type: str, data: bytes) -> Descriptor:
        digest = self.worker.content.add(data)
        return Descriptor(media_type=media_type, digest=digest, size=len(data))

    def script(self, name: str, text: str, **config: Any) -> None:
        """Name an image whose process is a shell script."""
        self.image(name, self.busybox_tree, Entrypoint=["/bin/sh", "-c", text], **config)

    @asynccontextmanager
    async def client(self, options: dict[str, str]) -> AsyncIterator[InProcessClient]:
        def find_source(scheme: str) -> Any:
            return self.source if scheme == "docker-image" else self.plugins.source(scheme)

        parts = BuildParts(
            session_id=SESSION,
            local=self.worker.local_source(self.local_dirs, SESSION),
            find_source=find_source,
            find_frontend=self.finder or FrontendFinder(self.plugins),
            runtime=chosen_runtime(self.worker.root, self.plugins, wanted="crun"),
            options=options,
        )
        async with open_job(self.worker, parts, self.events) as (_, client):
            yield client

    async def build(
        self, frontend: str = "gateway.v0", read: str = "", **options: str
    ) -> tuple[Result, bytes]:
        """Build, and read a file of the result."""
        inputs: dict[str, Definition] = {}
        if options.pop("with_input", ""):
            inputs["given"] = given_input()
        options = {name.replace("_", "."): value for name, value in options.items()}
        async with self.client(options) as client:
            request = SolveRequest(frontend=frontend, frontend_opt=options, frontend_inputs=inputs)
            result = await client.solve(request)
            data = b""
            if read:
                assert result.ref is not None
                data = await result.ref.read_file(read)
            return result, data

    def said(self) -> str:
        return b"".join(event.data for event in self.events.of(LogEvent)).decode()

    def failed(self) -> list[str]:
        return [event.name for event in self.events.of(VertexEvent) if event.error]


@pytest.fixture
def builder(worker: Worker, plugins: PluginManager, busybox_tree: Path, events: Events) -> Builder:
    return Builder(worker, plugins, ImageSource({}), busybox_tree, events)


NAME = "example.org/frontend:1"


async def test_what_the_process_gets(builder: Builder) -> None:
    script = """
    exec >&2
    echo "session $BUILDKIT_SESSION_ID product $BUILDKIT_EXPORTEDPRODUCT"
    env | grep BUILDKIT_FRONTEND_OPT
    echo "own $OWN in $PWD as $(id -u)"
    echo "net $(ls /sys/class/net)"
    echo "bin $(wc -c < /run/config/buildkit/metadata/frontend.bin)"
    touch /writable && echo writable
    touch /run/config/buildkit/metadata/x || true
    """
    labels = {"moby.buildkit.frontend.network.none": "true"}
    builder.script(NAME, script, Env=["OWN=1", "PATH=/bin"], WorkingDir="/tmp", Labels=labels)
    with pytest.raises(FrontendFailedError, match="no result for incomplete build"):
        await builder.build(source=NAME, target="a=b")
    said = builder.said()
    assert f"session {SESSION} product buildkit\n" in said
    assert "=target=a=b\n" in said
    assert f"=source={NAME}\n" in said
    assert "own 1 in /tmp as 0\n" in said
    assert "net lo\n" in said
    assert "writable\n" in said
    assert "Read-only file system" in said
    (request,) = builder.source.requests
    assert request.attrs == {"image.recordtype": "frontend"}
    assert request.rest.startswith(f"{NAME}@sha256:")
    assert "bin 0\n" not in said


async def test_failure_tells_what_it_said_and_asked(builder: Builder) -> None:
    builder.script(NAME, "echo oops >&2; exit 3", Env=["PATH=/bin"])
    with pytest.raises(FrontendFailedError, match="exit code: 3") as caught:
        await builder.build(source=NAME)
    assert caught.value.log == b"oops\n"
    assert caught.value.hint == "its last calls: none"
    assert builder.failed() == ["[frontend] example.org/frontend:1"]


async def test_missing_entrypoint_is_run(builder: Builder) -> None:
    builder.image(NAME, builder.busybox_tree, Cmd=["/bin/true"])
    with pytest.raises(ToranaError, match=r"/run|open executable"):
        await builder.build(source=NAME)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"frontend_caps": "moby.buildkit.frontend.contexts+forward"}, ""),
        ({"frontend_caps": "other"}, "moby.buildkit.frontend.inputs,another"),
        ({"with_input": "yes"}, "moby.buildkit.frontend.contexts"),
    ],
)
async def test_capabilities(builder: Builder, options: dict[str, str], label: str) -> None:
    builder.script(NAME, "true", Labels={"moby.buildkit.frontend.caps": label})
    with pytest.raises(UnsupportedFrontendCapError):
        await builder.build(source=NAME, **options)
    assert builder.source.requests == []


async def test_offered_capabilities(builder: Builder) -> None:
    label = "moby.buildkit.frontend.inputs+x,moby.buildkit.frontend.contexts"
    builder.script(NAME, "true", Labels={"moby.buildkit.frontend.caps": label})
    with pytest.raises(FrontendFailedError):
        await builder.build(
            source=NAME, with_input="yes", frontend_caps="moby.buildkit.frontend.contexts+forward"
        )


async def test_allowed_repositories(builder: Builder) -> None:
    builder.script(NAME, "true")
    builder.finder = FrontendFinder(builder.plugins, allowed=["docker/dockerfile"])
    with pytest.raises(FrontendNotAllowedError, match="is not an allowed gateway source"):
        await builder.build(source=NAME)
    builder.finder = FrontendFinder(builder.plugins, allowed=["example.org/frontend"])
    with pytest.raises(FrontendFailedError):
        await builder.build(source=NAME)


async def test_context_in_place_of_the_image(builder: Builder) -> None:
    builder.script("example.org/other:2", "echo other >&2; exit 1", Env=["PATH=/bin"])
    options = {
        "source": NAME,
        "context:example.org/frontend:1": "docker-image://example.org/other:2",
    }
    async with builder.client(options) as client:
        with pytest.raises(FrontendFailedError) as caught:
            await ImageFrontend().build(client)
    assert caught.value.log == b"other\n"


async def test_no_source(builder: Builder) -> None:
    with pytest.raises(UserError, match="no source specified for gateway"):
        await builder.build()


async def test_installed_frontend_stands_for_its_image(builder: Builder, tmp_path: Path) -> None:
    text = "# syntax=docker/dockerfile:1\nFROM scratch\nCOPY Dockerfile /copy\n"
    (tmp_path / "Dockerfile").write_text(text)
    builder.local_dirs = {"context": tmp_path, "dockerfile": tmp_path}
    _, data = await builder.build("dockerfile.v0", read="/copy")
    assert data.decode() == text
    names = [event.name for event in builder.events.of(VertexEvent)]
    assert "[frontend] docker/dockerfile:1 is served by torana's `dockerfile`" in names


# Our own frontend in an image


class BoundContainer(InProcessContainer):
    """A container that sees this machine's Python."""

    async def start(self, process: Any, **options: Any) -> Any:
        root = Path(__file__).resolve().parents[3]
        wanted = {"/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(root)}
        tops = {path for path in wanted if not any(path.startswith(f"{p}/") for p in wanted)}
        binds = [
            ContainerMount(destination=path, source=str(Path(path).resolve()), options=("ro",))
            for path in sorted(tops)
            if Path(path).is_dir()
        ]
        options["binds"] = [*options["binds"], *binds]
        return await super().start(process, **options)


async def test_our_frontend_in_an_image(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "torana.gateway.runners.serving", "dockerfile"]
    builder.image(NAME, builder.busybox_tree, Entrypoint=command)
    (tmp_path / "Dockerfile").write_text("FROM scratch AS one\nCOPY hello /there\n")
    (tmp_path / "hello").write_text("hello")
    builder.local_dirs = {"context": tmp_path, "dockerfile": tmp_path}

    async def new_container(self: InProcessClient, spec: ContainerSpec) -> Any:
        container: Any = await original(self, spec)
        container.__class__ = BoundContainer
        return container

    original = cast("Any", InProcessClient.new_container)
    monkeypatch.setattr(InProcessClient, "new_container", new_container)
    result, data = await builder.build(source=NAME, target="one", read="/there")
    assert data == b"hello"
    assert json.loads(result.metadata["containerimage.config"])["architecture"]
    # Its errors come back as what they were.
    with pytest.raises(UserError, match="target stage") as caught:
        await builder.build(source=NAME, target="two")
    assert type(caught.value).__name__ != "RemoteError"


# The original


@pytest.mark.skipif(GO_FRONTEND is None, reason="needs dockerfile-frontend")
class TestOriginal:
    @pytest.fixture
    def context(self, builder: Builder, tmp_path: Path) -> Path:
        assert GO_FRONTEND is not None
        tree = tmp_path / "image"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(GO_FRONTEND, tree / "bin" / "dockerfile-frontend")
        libraries = subprocess.run(["ldd", GO_FRONTEND], capture_output=True, text=True).stdout
        for path in re.findall(r"(/\S+) \(", libraries):
            (tree / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tree / path[1:])
        caps = "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests"
        labels = {
            "moby.buildkit.frontend.network.none": "true",
            "moby.buildkit.frontend.caps": caps,
        }
        builder.image(NAME, tree, Entrypoint=["/bin/dockerfile-frontend"], Labels=labels)
        context = tmp_path / "context"
        context.mkdir()
        (context / "hello").write_text("hello")
        builder.local_dirs = {"context": context, "dockerfile": context}
        return context

    async def test_build(self, builder: Builder, context: Path) -> None:
        (context / "Dockerfile").write_text("FROM scratch\nCOPY hello /there\n")
        result, data = await builder.build(source=NAME, read="/there")
        assert data == b"hello"
        assert json.loads(result.metadata["containerimage.config"])["architecture"] == "amd64"

    async def test_by_a_syntax_line(self, builder: Builder, context: Path) -> None:
        text = f"# syntax={NAME}\nFROM scratch\nCOPY hello /there\n"
        (context / "Dockerfile").write_text(text)
        _, data = await builder.build("dockerfile.v0", read="/there")
        assert data == b"hello"
        names = {event.name for event in builder.events.of(VertexEvent)}
        assert "[frontend] example.org/frontend:1" in names

    async def test_error_has_its_place(self, builder: Builder, context: Path) -> None:
        (context / "Dockerfile").write_text("FROM scratch\nCOPPY a b\n")
        with pytest.raises(ToranaError, match="unknown instruction: COPPY") as caught:
            await builder.build(source=NAME)
        (excerpt, *_) = caught.value.sources
        assert excerpt.filename == "Dockerfile"
        assert [r.start.line for r in excerpt.ranges] == [2]

    async def test_failing_step(self, builder: Builder, context: Path) -> None:
        (context / "Dockerfile").write_text("FROM scratch\nCOPY absent /\n")
        with pytest.raises(ToranaError, match="absent"):
            await builder.build(source=NAME, read="/x")

    async def test_subrequest(self, builder: Builder, context: Path) -> None:
        (context / "Dockerfile").write_text("FROM scratch AS one\nFROM one AS two\n")
        result, _ = await builder.build(source=NAME, requestid="frontend.targets")
        targets = json.loads(result.metadata["result.json"])["targets"]
        assert [target["name"] for target in targets] == ["one", "two"]
