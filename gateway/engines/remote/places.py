"""`Places`: where in the build file a step of a daemon comes from.

Daemons say it in the details of an error; old ones, and that of Docker 20.10, do not. But what was
sent to them says it, and the progress says which step failed.
"""

from __future__ import annotations

from torana.core.errors import ToranaError
from torana.core.llb.definition import Definition
from torana.core.oci.digest import Digest
from torana.core.solver.progress import ProgressEvent, ProgressSink, VertexEvent

_CANCELLED = "context canceled"


class Places:
    """Looks at progress on its way to `progress`, and at definitions."""

    def __init__(self, progress: ProgressSink) -> None:
        self._progress = progress
        self._definitions: list[Definition] = []
        self._failed: list[Digest] = []

    def emit(self, event: ProgressEvent) -> None:
        if isinstance(event, VertexEvent) and event.error and event.error != _CANCELLED:
            self._failed.append(event.digest)
        self._progress.emit(event)

    def note(self, definition: Definition) -> None:
        """Remember what was sent."""
        self._definitions.append(definition)

    def explain(self, error: BaseException) -> None:
        """Add the place of the step that failed to an error that has none."""
        if not isinstance(error, ToranaError) or error.sources:
            return
        for digest in self._failed:
            for definition in self._definitions:
                found = definition.source.excerpts(digest) if definition.source else ()
                if found:
                    error.sources = found
                    return
