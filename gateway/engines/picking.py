"""`pick`: the frontend that a build file asks for, before any frontend is imported.

The Dockerfile frontend hands builds on itself, as BuildKit's does. Where the build file lies in a
folder of the client, its first lines are read here first, so that a file of another language is
never given to it.
"""

from __future__ import annotations

from typing import Any, Final

from torana.core.records import dataclass
from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.forward import FROM_USER, hand_on, wanted_syntax
from torana.frontends.kit.syntax import Syntax
from torana.gateway.client.client import Result
from torana.gateway.engines.engine import BuildRequest

_DEFAULT: Final = "dockerfile.v0"
_BUILD_ARG: Final = "build-arg:"
_LARGEST_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Picked:
    """Another frontend than the default one, to be built by."""

    syntax: Syntax
    file: SourceFile

    async def build(self, client: Any) -> Result:
        """Build by it; errors without a place get that of the line that asked for it."""
        build_args = {
            key.removeprefix(_BUILD_ARG): value
            for key, value in client.options.items()
            if key.startswith(_BUILD_ARG)
        }
        return await hand_on(client, self.syntax, build_args, await client.inputs(), self.file)


def pick(request: BuildRequest) -> Picked | None:
    """Give what the user or the build file asks for, None for the frontend of the request."""
    if request.frontend != _DEFAULT or "cmdline" in request.options:
        return None
    file = _build_file(request)
    argument = request.options.get(f"{_BUILD_ARG}BUILDKIT_SYNTAX")
    build_args = {} if argument is None else {"BUILDKIT_SYNTAX": argument}
    found = wanted_syntax(build_args, file)
    if found is None and request.find_syntax is not None and (text := request.find_syntax()):
        found = Syntax(text.split(" ", 1)[0], text, FROM_USER)
    return None if found is None else Picked(found, file)


def _build_file(request: BuildRequest) -> SourceFile:
    """Read the build file; what cannot be read is left to the frontend to complain about."""
    name = request.options.get("filename", "Dockerfile")
    folder = request.local_dirs.get(request.options.get("dockerfilekey", "dockerfile"))
    data = b""
    if folder is not None:
        try:
            with open(folder / name, "rb") as file:
                data = file.read(_LARGEST_BYTES)
        except OSError:
            data = b""
    return SourceFile(filename=name, data=data)
