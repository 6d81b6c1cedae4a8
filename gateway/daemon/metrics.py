"""`Metrics`: what Prometheus may read of a daemon. Needs the extra `torana[telemetry]`.

Spec: names and labels as buildkitd has them (reference of the daemon, section 8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torana.core.errors import UnsupportedError
from torana.gateway.daemon.record import BuildRecord

_DURATION_BUCKETS_S: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """Counts builds; `running` is asked for when somebody reads."""

    def __init__(self, running: Callable[[], int]) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as err:
            raise UnsupportedError(
                "metrics need prometheus-client", hint="pip install 'torana[telemetry]'"
            ) from err
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        self._builds = prometheus.Counter(
            "buildkit_builds",
            "Builds that have ended.",
            ("frontend", "status", "error_code"),
            registry=self._registry,
        )
        self._steps = prometheus.Counter(
            "buildkit_builds_steps", "Steps of these builds.", ("kind",), registry=self._registry
        )
        self._duration = prometheus.Histogram(
            "buildkit_build_duration_seconds",
            "How long builds took.",
            buckets=_DURATION_BUCKETS_S,
            registry=self._registry,
        )
        active = prometheus.Gauge(
            "torana_builds_running", "Builds that run now.", registry=self._registry
        )
        active.set_function(running)

    def build_ended(self, record: BuildRecord) -> None:
        """Count a build."""
        code = "" if record.error is None else str(record.error[0])
        self._builds.labels(record.frontend, record.status, code).inc()
        steps = record.steps
        for kind in ("completed", "cached", "total", "warnings"):
            self._steps.labels(kind).inc(getattr(steps, kind))
        if record.completed is not None:
            self._duration.observe(record.completed - record.created)

    def text(self) -> tuple[str, bytes]:
        """Give media type and text for a scrape."""
        import prometheus_client as prometheus

        return prometheus.CONTENT_TYPE_LATEST, prometheus.generate_latest(self._registry)
