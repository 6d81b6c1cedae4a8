"""`StepTraces`: how the programs of a step send spans of their own. Pure.

Spec: reference of exec, section 12.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torana.core.ops.runtime import ContainerMount
from torana.core.records import dataclass

_PLACE: Final = "/dev/otel-grpc.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTraces:
    """`socket` serves OpenTelemetry's trace service; `parent` is the span of the build's client.

    `parent` is a W3C trace context, empty where there is none.
    """

    socket: Path
    parent: str = ""

    def environment(self) -> Mapping[str, str]:
        """Give the variables of steps that do not set them."""
        found = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"unix://{_PLACE}",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
        }
        return {**found, "TRACEPARENT": self.parent} if self.parent else found

    def mount(self) -> ContainerMount:
        """Give the mount of the socket."""
        return ContainerMount(destination=_PLACE, source=str(self.socket), options=("ro",))
