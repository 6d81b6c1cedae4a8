"""Nesting: another frontend on the same engine, run where this one runs.

Torana's own frontends are run in this process, so that the same ops come out whatever the engine
is. All others are left to the engine, which knows whether and how confined they may run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from torana.core.llb.definition import Definition
from torana.core.llb.places import located_at
from torana.core.llb.state import mkfile, scratch
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.gateway.client.client import (
    Client,
    ResolvedImage,
    ResolvedSource,
    Result,
    SolveRequest,
    Warning,
    Worker,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torana.core.oci.platform import Platform
    from torana.gateway.client.containers import Container, ContainerSpec

_GROUP: Final = "torana.frontends"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_KEPT: Final = (
    "image-resolve-mode",
    "no-cache",
    "cache-imports",
    "dockerfilekey",
    "contextkey",
    "locked",
)
_KEPT_PREFIXES: Final = ("local-sessionid:", "build-arg:", "context:", "input-metadata:")
_FILE: Final = "dockerfile"  # the input that has the build file


async def build_nested(
    context: BuildContext,
    name: str,
    *,
    text: str | None,
    inputs: Mapping[str, Definition],
    options: Mapping[str, str],
) -> Result:
    """Run another frontend; build arguments and named contexts are passed on.

    Raises:
        NotFoundError: there is no such frontend, here or on the engine.
    """
    opts = {key: value for key, value in context.client.options.items() if _is_kept(key)}
    opts |= options
    given = {**await context.inputs(), **inputs}
    if text is not None:
        opts.setdefault("filename", "nested")
        file = mkfile(f"/{opts['filename']}", text.encode())
        with located_at(()):
            given[_FILE] = context.marshal(scratch().file(file))
    opts["cmdline"] = name  # it was chosen: a syntax line of the nested file changes nothing
    frontend = _own(name)
    if frontend is None:
        is_name = _NAME.fullmatch(name) is not None
        opts |= {} if is_name else {"source": name}
        wanted = name if is_name else "gateway.v0"
        return await context.client.solve(
            SolveRequest(frontend=wanted, frontend_opt=opts, frontend_inputs=given)
        )
    with located_at(()):
        result: Result = await frontend.build(NestedClient(context.client, opts, given))
    return result


def _is_kept(key: str) -> bool:
    return key in _KEPT or key.startswith(_KEPT_PREFIXES)


def _own(name: str) -> Any:
    """Make Torana's own frontend of that name, None if there is none."""
    from importlib.metadata import distribution

    for point in distribution("torana").entry_points.select(group=_GROUP, name=name):
        return point.load()()
    return None


@dataclass(frozen=True, slots=True)
class NestedClient:
    """The same engine with other options and inputs."""

    outer: Client
    options: Mapping[str, str]
    given: Mapping[str, Definition]

    @property
    def session_id(self) -> str:
        return self.outer.session_id

    @property
    def workers(self) -> Sequence[Worker]:
        return self.outer.workers

    @property
    def llb_caps(self) -> frozenset[str]:
        return self.outer.llb_caps

    @property
    def gateway_caps(self) -> frozenset[str]:
        return self.outer.gateway_caps

    async def inputs(self) -> Mapping[str, Definition]:
        return self.given

    async def solve(self, request: SolveRequest) -> Result:
        return await self.outer.solve(request)

    async def resolve_image(
        self,
        ref: str,
        *,
        platform: Platform | None = None,
        resolve_mode: str = "default",
        log_name: str = "",
    ) -> ResolvedImage:
        return await self.outer.resolve_image(
            ref, platform=platform, resolve_mode=resolve_mode, log_name=log_name
        )

    async def resolve_source(
        self,
        identifier: str,
        attrs: Mapping[str, str],
        *,
        platform: Platform | None = None,
        log_name: str = "",
        resolve_mode: str = "default",
    ) -> ResolvedSource:
        return await self.outer.resolve_source(
            identifier, attrs, platform=platform, log_name=log_name, resolve_mode=resolve_mode
        )

    async def new_container(self, spec: ContainerSpec) -> Container:
        return await self.outer.new_container(spec)

    async def warn(self, warning: Warning) -> None:
        await self.outer.warn(warning)
