"""`Exports`: what is asked of a daemon's exporters, and where it goes here.

Spec: wire reference, control, Exporters; session, FileSend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from torana.core.errors import UnsupportedError
from torana.gateway.engines.engine import ExportRequest
from torana.gateway.engines.output import ClientOutput
from torana.gateway.session.filesend import FileTarget, FolderTarget, Target


class Exports:
    """The exports of one build. A Docker daemon calls the image exporter `moby`."""

    def __init__(self, requests: Sequence[ExportRequest], *, is_docker: bool) -> None:
        self._requests = tuple(requests)
        self._is_docker = is_docker
        if is_docker and len(self._requests) > 1:
            raise UnsupportedError(
                "a Docker daemon makes one export per build", hint="give -o or -t once"
            )

    def wanted(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """Give type and attributes of each exporter, in order."""
        for request in self._requests:
            attrs = dict(request.attrs)
            if request.type == "local":
                attrs.pop("mode", None)  # what happens in the folder is decided here
            yield self._type(request), attrs

    def targets(self) -> Mapping[int, Target]:
        """Give where files go, by the number of the export."""
        found: dict[int, Target] = {}
        for number, request in enumerate(self._requests):
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

    def _type(self, request: ExportRequest) -> str:
        if not self._is_docker or request.dest is not None:
            return request.type
        return "moby" if request.type in ("image", "docker") else request.type


def _loaded() -> FileTarget:
    from torana.gateway.engines.dockerload import DockerLoad

    return FileTarget(DockerLoad().file)


def _file_target(dest: str) -> FileTarget:
    output = ClientOutput(dest)

    def begin(answer: Mapping[str, str]) -> AbstractContextManager[BinaryIO]:
        return output.file()

    return FileTarget(begin)
