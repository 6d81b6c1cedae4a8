"""`Exports`: what is asked of a daemon's exporters, and where it goes here.

Spec: wire reference, control, Exporters; session, FileSend.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Final

from torana.core.errors import UnsupportedError
from torana.gateway.engines.engine import ExportRequest
from torana.gateway.engines.output import ClientOutput
from torana.gateway.session.filesend import FileTarget, FolderTarget, Target
from torana.gateway.session.layout import LayoutStore

_FALSE: Final = ("0", "f", "F", "false", "False", "FALSE")  # as Go reads them


class Exports:
    """The exports of one build. A Docker daemon calls the image exporter `moby`."""

    def __init__(self, requests: Sequence[ExportRequest], *, is_docker: bool) -> None:
        self._requests = tuple(requests)
        self._is_docker = is_docker
        if is_docker and len(self._requests) > 1:
            raise UnsupportedError(
                "a Docker daemon makes one export per build", hint="give -o or -t once"
            )
        if sum(_is_layout(request) for request in self._requests) > 1:
            raise UnsupportedError("a daemon writes one layout (tar=false) per build")

    def wanted(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Give type and attributes of each exporter, in order."""
        for request in self._requests:
            yield self._type(request), request.attrs

    def targets(self) -> Mapping[int, Target]:
        """Give where files go, by the number of the export."""
        found: dict[int, Target] = {}
        for number, request in enumerate(self._requests):
            if _is_layout(request):
                continue
            if request.dest is None:
                if self._type(request) == "docker":
                    found[number] = _loaded()
                continue
            if request.type == "local":
                deletes = request.attrs.get("mode") == "delete"
                found[number] = FolderTarget(Path(request.dest), deletes=deletes)
            else:
                found[number] = _file_target(request.dest)
        return found

    def layout(self) -> LayoutStore | None:
        """Give the store that `tar=false` exports write to."""
        for request in self._requests:
            if request.dest is not None and _is_layout(request):
                return LayoutStore(ClientOutput(request.dest).directory(), is_writable=True)
        return None

    def finish(self, response: Mapping[str, str]) -> None:
        """Give what has arrived its names, as the daemon's answer says."""
        layout = self.layout()
        described = response.get("containerimage.descriptor")
        if layout is not None and described:
            names = [name for name in response.get("image.name", "").split(",") if name]
            layout.add_image(json.loads(base64.b64decode(described)), names)

    def _type(self, request: ExportRequest) -> str:
        if not self._is_docker or request.dest is not None:
            return request.type
        return "moby" if request.type in ("image", "docker") else request.type


def _loaded() -> FileTarget:
    from torana.gateway.engines.dockerload import DockerLoad

    return FileTarget(DockerLoad().file)


def _is_layout(request: ExportRequest) -> bool:
    """Say whether it is written blob by blob."""
    has_type = request.type in ("oci", "docker")
    return has_type and request.dest is not None and request.attrs.get("tar") in _FALSE


def _file_target(dest: str) -> FileTarget:
    output = ClientOutput(dest)

    def begin(answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO]:
        return output.file()

    return FileTarget(begin)
