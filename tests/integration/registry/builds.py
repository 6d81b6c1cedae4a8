"""`Builds`: builds on an engine of their own, and what they ran and exported."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torana.core.ops.source import Source
from torana.core.solver.progress import ProgressEvent, StatusEvent, VertexEvent
from torana.core.worker import Worker
from torana.gateway.engines.embedded import EmbeddedEngine
from torana.gateway.engines.engine import BuildRequest, ExportRequest
from torana.plugins.manager import PluginManager
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.sources.image import ImageSource


def layer_of(files: Mapping[str, str], *, mtime: int = 0) -> bytes:
    """Give a plain layer tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            member.mtime = mtime
            archive.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


@dataclass(frozen=True)
class Layout:
    """An OCI layout folder."""

    folder: Path

    @property
    def entries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.folder / "index.json").read_text())[
            "manifests"
        ]
        return found

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        path = str(descriptor["digest"]).replace(":", "/")
        return (self.folder / "blobs" / path).read_bytes()

    def document(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blob(descriptor))
        return found


class _Plugins(PluginManager):
    """With an image source that has its own access."""

    def __init__(self, access: RegistryAccess) -> None:
        super().__init__()
        self._images = ImageSource(access)

    def source(self, scheme: str) -> Source | None:
        return self._images if scheme == "docker-image" else super().source(scheme)


class Builds:
    """One store; `events` are those of the last build."""

    def __init__(self, root: Path, access: RegistryAccess, snapshotter: str = "native") -> None:
        self.root = root
        self._access = access
        self.worker = Worker(root / "root", snapshotter=snapshotter)
        self.engine = EmbeddedEngine(self.worker, _Plugins(access))
        self.events: list[ProgressEvent] = []
        self.layouts: dict[str, Path] = {}

    def emit(self, event: ProgressEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.worker.close()
        self._access.pools.close()

    @property
    def statuses(self) -> set[str]:
        return {event.id for event in self.events if isinstance(event, StatusEvent)}

    @property
    def cached(self) -> set[str]:
        return {e.name for e in self.events if isinstance(e, VertexEvent) and e.cached}

    async def build(self, text: str, /, *exports: ExportRequest, **options: str) -> dict[str, str]:
        """Build a Dockerfile, which may use what is in `layouts`; gives the exporters' answer."""
        folder = self.root / "context"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(text)
        self.events.clear()
        built = await self.engine.build(
            BuildRequest(
                frontend="dockerfile",
                options=options,
                local_dirs={"context": folder, "dockerfile": folder},
                oci_layouts=self.layouts,
                exports=exports,
            ),
            self,
        )
        return dict(built.response)

    async def files(self, text: str, **options: str) -> dict[str, str]:
        """Build, and give the files of the result."""
        dest = self.root / "out"
        attrs = {"mode": "delete"}
        await self.build(text, ExportRequest(type="local", dest=str(dest), attrs=attrs), **options)
        return {
            str(path.relative_to(dest)): path.read_text()
            for path in sorted(dest.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    async def layout(self, text: str, attrs: Mapping[str, str], **options: str) -> Layout:
        """Build, and give the image as a layout folder."""
        folder = self.root / f"layout{len(list(self.root.glob('layout*')))}"
        export = ExportRequest(type="oci", dest=str(folder), attrs={"tar": "false", **attrs})
        await self.build(text, export, **options)
        return Layout(folder)

    async def image(self, text: str, **options: str) -> dict[str, Any]:
        """Build, and give manifest and config of the image."""
        dest = self.root / "image.tar"
        await self.build(text, ExportRequest(type="oci", dest=str(dest)), **options)
        with tarfile.open(dest) as archive:

            def read(digest: str) -> Any:
                file = archive.extractfile(f"blobs/{digest.replace(':', '/')}")
                assert file is not None
                return json.load(file)

            index = archive.extractfile("index.json")
            assert index is not None
            manifest = read(json.load(index)["manifests"][0]["digest"])
            return {"manifest": manifest, "config": read(manifest["config"]["digest"])}
