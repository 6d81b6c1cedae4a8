"""`WantedBuild`: a `SolveRequest` of the Control service, read and checked.

Spec: wire reference, control, Solve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from torana.core.errors import UnsupportedError, UserError
from torana.core.llb.definition import Definition
from torana.core.llb.policy import SourcePolicy
from torana.core.records import dataclass
from torana.gateway.client.client import CacheImport
from torana.gateway.client.policy_messages import policies_of
from torana.gateway.daemon.config import NO_PROXY_NETWORK
from torana.gateway.protocol import control_pb2 as pb

_COMPATIBILITY_VERSIONS: Final = (0, 10, 20, 30)
_REF_LIMIT: Final = 256  # characters


class EntitlementError(UserError):
    """The daemon was not configured to grant an entitlement."""

    code = "ENTITLEMENT_REFUSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedExport:
    """One entry of a request's exporters."""

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedBuild:
    """A build to run. With neither `frontend` nor `definition` the client drives it.

    `cache_exports` are like `cache_imports`: a type and its attributes.
    """

    ref: str
    session_id: str
    frontend: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    definition: Definition | None = None
    inputs: Mapping[str, Definition] = field(default_factory=dict)
    exports: Sequence[WantedExport] = ()
    cache_imports: Sequence[CacheImport] = ()
    cache_exports: Sequence[CacheImport] = ()
    entitlements: frozenset[str] = frozenset()
    source_policies: Sequence[SourcePolicy] = ()
    policy_session: str = ""  # whose client is asked about each source
    is_internal: bool = False
    traceparent: str = ""  # W3C trace context of the caller


def read_request(
    request: pb.SolveRequest, *, granted: frozenset[str], traceparent: str = ""
) -> WantedBuild:
    """Read a request; `granted` are the entitlements that the daemon may grant.

    Raises:
        UserError: the request contradicts itself or asks for what is not known.
        EntitlementError: it asks for a right that is not to be had.
    """
    if not request.Ref or len(request.Ref) > _REF_LIMIT:
        raise UserError("build has no id" if not request.Ref else "build id is too long")
    definition = _definition(request)
    if definition is not None and request.Frontend:
        raise UserError("cannot solve with both Definition and Frontend specified")
    if request.CompatibilityVersion not in _COMPATIBILITY_VERSIONS:
        raise UserError(f"unsupported compatibility version: {request.CompatibilityVersion}")
    if request.ProxyNetwork:
        raise UnsupportedError(NO_PROXY_NETWORK)
    return WantedBuild(
        ref=request.Ref,
        session_id=request.Session,
        frontend=request.Frontend,
        options=dict(request.FrontendAttrs),
        definition=definition,
        inputs={
            name: Definition.decode(each.SerializeToString())
            for name, each in request.FrontendInputs.items()
        },
        exports=_exports(request),
        cache_imports=_cache_imports(request.Cache),
        cache_exports=_cache_exports(request.Cache),
        entitlements=_entitlements(request.Entitlements, granted),
        source_policies=policies_of([request.SourcePolicy]) if request.SourcePolicy.rules else (),
        policy_session=request.SourcePolicySession,
        is_internal=request.Internal,
        traceparent=traceparent,
    )


def _definition(request: pb.SolveRequest) -> Definition | None:
    if not request.HasField("Definition") or not getattr(request.Definition, "def"):
        return None
    return Definition.decode(request.Definition.SerializeToString())


def _exports(request: pb.SolveRequest) -> list[WantedExport]:
    if request.Exporters:
        return [WantedExport(type=e.Type, attrs=dict(e.Attrs)) for e in request.Exporters]
    if request.ExporterDeprecated:  # clients from before there could be several
        attrs = dict(request.ExporterAttrsDeprecated)
        return [WantedExport(type=request.ExporterDeprecated, attrs=attrs)]
    return []


def _cache_imports(cache: pb.CacheOptions) -> list[CacheImport]:
    old = [CacheImport(type="registry", attrs={"ref": ref}) for ref in cache.ImportRefsDeprecated]
    return old + [CacheImport(type=each.Type, attrs=dict(each.Attrs)) for each in cache.Imports]


def _cache_exports(cache: pb.CacheOptions) -> list[CacheImport]:
    found = [CacheImport(type=each.Type, attrs=dict(each.Attrs)) for each in cache.Exports]
    if cache.ExportRefDeprecated and not found:
        attrs = {**cache.ExportAttrsDeprecated, "ref": cache.ExportRefDeprecated}
        found = [CacheImport(type="registry", attrs=attrs)]
    return found


def _entitlements(wanted: Sequence[str], granted: frozenset[str]) -> frozenset[str]:
    for name in wanted:
        if name.partition("=")[0] not in granted:
            raise EntitlementError(
                f"granting entitlement {name} is not allowed by build daemon configuration",
                hint="`insecure-entitlements` in toranad.toml, or --allow-insecure-entitlement",
            )
    return frozenset(wanted)
