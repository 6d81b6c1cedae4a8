"""`BuildCaches`: the caches that one build of the embedded engine imports and exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torana.core.records import dataclass
from torana.core.remotecache.backend import CacheReader
from torana.core.solver.progress import ProgressSink, WarningEvent
from torana.core.worker import Worker
from torana.gateway.client.client import CacheImport
from torana.gateway.engines.cachefaults import CacheFaults
from torana.gateway.engines.caching import AGAIN, CacheExports, open_reader
from torana.gateway.engines.clientcaches import ClientCaches, FolderLayouts
from torana.gateway.engines.engine import BuildRequest
from torana.plugins.cachebackend import CacheContext
from torana.plugins.manager import PluginManager


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildCaches:
    """What was found out before the build; `request` has the imports that can be read."""

    request: BuildRequest
    client: ClientCaches
    exports: CacheExports
    faults: CacheFaults
    open_reader: Callable[[CacheImport], CacheReader]

    @classmethod
    def open(
        cls, request: BuildRequest, worker: Worker, plugins: PluginManager, progress: ProgressSink
    ) -> BuildCaches:
        """Check the caches of a request.

        Raises:
            CacheOptionError: an attribute is wrong.
            UsageError: there is no such kind of cache.
        """

        def warn(text: str) -> None:
            progress.emit(WarningEvent(vertex=None, short=text))

        client = ClientCaches.read(request.cache_imports, request.cache_exports, warn)
        context = CacheContext(content=worker.content, layouts=FolderLayouts(client.stores))
        faults = CacheFaults()
        open_import = partial(open_reader, plugins, context, faults)
        for wanted in client.imports:
            open_import(wanted)  # options that are wrong should not cost a build
        options = {**request.options, **client.options()}
        return cls(
            request=replace(request, cache_imports=client.imports, options=options),
            client=client,
            exports=CacheExports.open(client.exports, plugins, context),
            faults=faults,
            open_reader=open_import,
        )

    def again(self, progress: ProgressSink) -> bool:
        """Say whether a build that failed is to run again, without imports; tells the user."""
        if self.faults.is_any:
            progress.emit(WarningEvent(vertex=None, short=AGAIN))
        return self.faults.is_any
