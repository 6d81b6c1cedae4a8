"""What the SBOM scanner looks at: the target, and what its instructions ask to be scanned."""

from __future__ import annotations

from torana.frontends.dockerfile.convert import Conversion
from torana.frontends.dockerfile.emit import Emitter
from torana.frontends.kit.scan import Scan


def scan_of(conversion: Conversion, emitter: Emitter) -> Scan:
    """Collect the trees of an emitted conversion."""
    target = conversion.found_target
    scanned = [stage for stage in emitter.states if stage.scans and stage is not target]
    extras = {stage.label: emitter.states[stage] for stage in scanned}
    if target.scans_context:
        extras["context"] = emitter.context()
    options = conversion.context.options
    ignore_cache = any(
        stage.replacement is None and options.ignores_cache(stage.name)
        for stage in (target, *scanned)
    )
    return Scan(emitter.stage(target), dict(sorted(extras.items())), ignore_cache)
