"""What our engine tells frontends that it can do.

Spec: BuildKit's `frontend/gateway/pb` and `solver/pb` capabilities.
"""

from __future__ import annotations

from typing import Final

from torana.core.llb.caps import LLB_CAPS

GATEWAY_CAPS: Final = frozenset(
    """
    solve.base solve.inlinereturn resolveimage resolveimage.resolvemode readfile return returnmap
    readdir statfile
    importcaches proto.refarray reference.output frontend.inputs gateway.solve.metadata
    frontend.caps gateway.solve.evaluate gateway.evaluate gateway.warnings reference.attestations
    source.metaresolver gateway.exec gateway.exec.extrahosts gateway.exec.secretenv
    gateway.exec.signals gateway.exec.filesystem
    """.split()
)
ENGINE_LLB_CAPS: Final = LLB_CAPS - {
    "exporter.image.attestations",
    "cache.gha",
    "cache.s3",
    "cache.azblob",
    "exec.meta.network.proxy",
}
