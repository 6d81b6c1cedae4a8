"""`ImageFrontend`: runs an image that is a frontend, as BuildKit's `gateway.v0` does.

The image's process gets the gateway as standard input and output; what it writes to standard error
is shown under a vertex of its own.

Spec: reference of the gateway, "Running a frontend image".
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Protocol

from torana.core.llb import image
from torana.core.llb.definition import Definition
from torana.core.llb.ops import NetMode
from torana.core.oci.image import parse_config
from torana.core.oci.reference import ImageReference
from torana.core.ops.runtime import ContainerMount as HostMount
from torana.core.ops.runtime import Streams
from torana.core.records import dataclass
from torana.frontends.kit.subrequests import UnsupportedFrontendCapError
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.containers import InProcessContainer
from torana.gateway.bridge.service import hosted
from torana.gateway.client.client import Reference, Result, SolveRequest
from torana.gateway.client.containers import ContainerMount, ContainerSpec, ProcessSpec
from torana.gateway.client.environment import FrontendEnvironment
from torana.gateway.runners.conversation import (
    ErrorOutput,
    HostClient,
    conclude,
    named,
    reading,
)
from torana.gateway.runners.imageref import check_allowed, parse_source, replaced

_METADATA: Final = "/run/config/buildkit/metadata"
_DEFINITION: Final = "frontend.bin"
_NO_NETWORK: Final = "moby.buildkit.frontend.network.none"
_CAPS: Final = "moby.buildkit.frontend.caps"
_INPUTS: Final = "moby.buildkit.frontend.inputs"


class ImageClient(HostClient, Protocol):
    """A host's client whose containers are in this process."""

    async def new_container(self, spec: ContainerSpec) -> InProcessContainer: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendImage:
    """An image that is a frontend: how its process is started, and what it says of itself."""

    source: ImageReference
    definition: Definition
    args: Sequence[str]
    env: Sequence[str]
    cwd: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, source: ImageReference, definition: Definition, config: bytes) -> FrontendImage:
        """Read the config of an image."""
        settings: dict[str, Any] = parse_config(config).get("config") or {}
        return cls(
            source=source,
            definition=definition,
            args=settings.get("Entrypoint") or ["/run"],
            env=settings.get("Env") or [],
            cwd=settings.get("WorkingDir") or "/",
            labels=settings.get("Labels") or {},
        )

    @property
    def network(self) -> NetMode:
        return NetMode.NONE if self.labels.get(_NO_NETWORK) == "true" else NetMode.UNSET

    def check(self, options: Mapping[str, str], *, has_inputs: bool) -> None:
        """Compare what the build needs with what the image has.

        Raises:
            UnsupportedFrontendCapError: it lacks something.
        """
        offered = {_bare(cap) for cap in self.labels.get(_CAPS, "").split(",")}
        needed = [_bare(cap) for cap in options.get("frontend.caps", "").split(",")]
        if has_inputs:
            needed.append(_INPUTS)
        for cap in filter(None, needed):
            if cap not in offered:
                raise UnsupportedFrontendCapError(cap)


@dataclass(frozen=True, slots=True)
class ImageFrontend:
    """Runs the image that the option `source` names, if it is of an allowed repository."""

    allowed: Sequence[str] | None = None
    name: str = "gateway.v0"

    async def build(self, client: ImageClient) -> Result:
        """Fetch the image, run its process to the end, and give what that returned.

        Raises:
            ToranaError: what the frontend returned, or why it could not be run.
        """
        source = parse_source(client.options)
        with named(self.name, str(source)):
            check_allowed(source, self.allowed)
            found = await self._find(client, source)
            found.check(client.options, has_inputs=bool(await client.inputs()))
            result = await client.solve(SolveRequest(definition=found.definition, evaluate=True))
            with client.vertex(f"[frontend] {found.source.familiar()}") as log:
                return await _run(client, found, result.ref, ErrorOutput(log))

    async def _find(self, client: ImageClient, source: ImageReference) -> FrontendImage:
        platform = client.workers[0].platforms[0]
        wanted = replaced(source, client.options, platform)
        check_allowed(wanted, self.allowed)
        resolved = await client.resolve_image(
            str(wanted), log_name=f"resolve image config for docker-image://{wanted}"
        )
        pinned = wanted.with_digest(resolved.digest)
        state = image(str(pinned), record_type="frontend", platform=platform)
        return FrontendImage.of(wanted, state.marshal(), resolved.config)


async def _run(
    client: ImageClient, found: FrontendImage, tree: Reference | None, output: ErrorOutput
) -> Result:
    bridge = Bridge(client)
    shown = found.source.familiar()
    root = ContainerMount(dest="/", reference=tree)
    spec = ContainerSpec(mounts=(root,), network=found.network)
    try:
        async with AsyncExitStack() as stack:
            metadata = stack.enter_context(_metadata(found.definition))
            container = await stack.enter_async_context(await client.new_container(spec))
            connection = await stack.enter_async_context(hosted(bridge))
            write_end = await stack.enter_async_context(reading(output))
            process = await container.start(
                _process(client, found),
                streams=Streams(connection.fileno(), connection.fileno(), write_end.fileno()),
                binds=(metadata,),
            )
            # The other end is the process's alone: when it ends, the connection does.
            connection.close()
            write_end.close()
            code = await process.wait()
        return await conclude(bridge, f"`{shown}`", code, output)
    finally:
        await bridge.close()


def _process(client: ImageClient, found: FrontendImage) -> ProcessSpec:
    told = FrontendEnvironment(
        options=client.options, session_id=client.session_id, workers=client.workers
    )
    variables = [f"{name}={value}" for name, value in told.encode().items()]
    return ProcessSpec(args=found.args, env=[*found.env, *variables], cwd=found.cwd)


@contextlib.contextmanager
def _metadata(definition: Definition) -> Iterator[HostMount]:
    """Have a folder with the definition of the image, to be mounted for its process."""
    with tempfile.TemporaryDirectory(prefix="torana.gateway-") as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / _DEFINITION).write_bytes(definition.encode())
        yield HostMount(destination=_METADATA, source=folder, options=("ro",))


def _bare(cap: str) -> str:
    return cap.partition("+")[0].strip()
