"""Results of one or several platforms, with the metadata keys that exporters read.

Spec: exporters reference, section 7; conversion reference, sections 8 and 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from torana.core.oci.image import compact_json
from torana.core.oci.platform import Platform
from torana.core.records import dataclass
from torana.gateway.client.client import Attestation, Reference, Result

CONFIG_KEY: Final = "containerimage.config"
BASE_CONFIG_KEY: Final = "containerimage.base.config"
PLATFORMS_KEY: Final = "refs.platforms"
EPOCH_KEY: Final = "source.date.epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformResult:
    """What was built for one platform; `config` and `base_config` are image configs as JSON."""

    id: str  # the platform as it was asked for; references, metadata and attestations share it
    platform: Platform
    ref: Reference | None
    config: bytes | None = None
    base_config: bytes | None = None
    epoch: int | None = None  # seconds since the Unix epoch
    attestations: Sequence[Attestation] = ()


def assemble(results: Sequence[PlatformResult], *, multi_platform: bool) -> Result:
    """Put the platforms together: a map of references, or the one plain reference."""
    metadata: dict[str, bytes] = {}
    for result in results:
        suffix = f"/{result.id}" if multi_platform else ""
        if result.config is not None:
            metadata[CONFIG_KEY + suffix] = result.config
        if result.base_config is not None:
            metadata[BASE_CONFIG_KEY + suffix] = result.base_config
        if result.epoch is not None:
            metadata[EPOCH_KEY + suffix] = str(result.epoch).encode()
    metadata[PLATFORMS_KEY] = compact_json({"Platforms": [_entry(result) for result in results]})
    attestations = {
        result.id: tuple(result.attestations) for result in results if result.attestations
    }
    if multi_platform:
        refs = {result.id: result.ref for result in results}
        return Result(refs=refs, metadata=metadata, attestations=attestations)
    return Result(ref=results[0].ref, metadata=metadata, attestations=attestations)


def _entry(result: PlatformResult) -> Mapping[str, Any]:
    return {"ID": result.id, "Platform": result.platform.to_dict()}
