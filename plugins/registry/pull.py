"""`Pull`: fetches layers from an origin, and reports on a vertex."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Final

from torana.core.content.store import ContentStore
from torana.core.errors import UnwritableError
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.reference import ImageReference
from torana.core.ops.source import SourceProgress
from torana.plugins.registry.errors import RegistryError, StoppedError
from torana.plugins.registry.origin import OpenOrigin
from torana.plugins.registry.threads import network_pool

_REPORT_S: Final = 0.1  # between two reports of one download


class Pull:
    """A `LayerProvider` for the blobs of one reference; made on the event loop."""

    def __init__(
        self,
        open_origin: OpenOrigin,
        reference: ImageReference,
        content: ContentStore,
        progress: SourceProgress,
    ) -> None:
        self._open_origin = open_origin
        self._reference = reference
        self._content = content
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()

    def fetch(self, blob: Descriptor) -> Future[None]:
        return network_pool().submit(self._fetch, blob, self._stop)

    def _fetch(self, blob: Descriptor, stop: threading.Event) -> None:
        report = self._reporter(blob)
        try:
            self._open_origin(stop).fetch(self._reference, blob, self._content, report)
        except StoppedError:
            raise RegistryError(f"{self._reference}: pulling was stopped") from None
        except OSError as err:
            if err.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UnwritableError(f"{self._reference.name}@{blob.digest}", err) from err
        self._report(blob.digest, current=blob.size, total=blob.size, done=True)

    def _reporter(self, blob: Descriptor) -> Callable[[int], None]:
        last_s = 0.0

        def report(count: int) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s >= _REPORT_S:
                last_s = now_s
                self._report(blob.digest, current=count, total=blob.size)

        report(0)
        return report

    def extracting(self, blob: Descriptor, *, done: bool) -> None:
        self._report(f"extracting {blob.digest}", done=done)

    def stop(self) -> None:
        self._stop.set()
        self._stop = threading.Event()

    def _report(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        status = partial(self._progress.status, id, current=current, total=total, done=done)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(status)
