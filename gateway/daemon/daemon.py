"""`Daemon`: the parts of a running `toranad`, put together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine
from typing import Any, Final

import grpc.aio

from torana.core.errors import ToranaError
from torana.core.pool import run_blocking
from torana.core.worker import Worker
from torana.gateway.daemon.blobs import BlobReader
from torana.gateway.daemon.builds import Builds
from torana.gateway.daemon.config import Config
from torana.gateway.daemon.control import Control
from torana.gateway.daemon.debughttp import DebugServer, json_page
from torana.gateway.daemon.forward import forwarding_handler
from torana.gateway.daemon.health import Health
from torana.gateway.daemon.history import History
from torana.gateway.daemon.housekeeping import Housekeeping
from torana.gateway.daemon.identity import identify
from torana.gateway.daemon.listeners import Listeners, parse_address
from torana.gateway.daemon.metrics import Metrics
from torana.gateway.daemon.record import BuildRecord
from torana.gateway.daemon.solve import Solving
from torana.gateway.daemon.solvemessages import WantedBuild
from torana.gateway.daemon.systemd import take_listeners
from torana.gateway.daemon.trace import Span, collector_sink
from torana.gateway.daemon.traceservice import TraceSocket, trace_handler
from torana.gateway.protocol import limits
from torana.gateway.protocol.calls import ErrorInterceptor
from torana.gateway.protocol.content_pb2_grpc import add_ContentServicer_to_server
from torana.gateway.protocol.control_pb2_grpc import add_ControlServicer_to_server
from torana.gateway.protocol.health_pb2_grpc import add_HealthServicer_to_server
from torana.gateway.session.manager import SessionManager
from torana.plugins.manager import PluginManager

log = logging.getLogger(__name__)

_STOP_GRACE_S: Final = 5.0


class StoppingError(ToranaError):
    """The daemon takes no new builds."""

    code = "DAEMON_STOPPING"


class Daemon:
    """Everything that answers clients; lives on one event loop, on a worker that is open."""

    def __init__(self, config: Config, worker: Worker) -> None:
        self.config = config
        self.worker = worker
        self.identity = identify(worker, config.worker)
        self.builds = Builds()
        self.sessions = SessionManager()
        self.history = History(
            worker.root,
            max_age_s=config.history_max_age_s,
            max_entries=config.history_max_entries,
        )
        self.housekeeping = Housekeeping(worker, config.worker, self.history)
        self._solving = Solving(
            config,
            worker,
            PluginManager(),
            self.builds,
            self.history,
            self.sessions,
            on_end=self._build_ended,
        )
        self._spans = collector_sink()
        self._trace_socket: TraceSocket | None = None
        self._metrics: Metrics | None = None
        self._debug: DebugServer | None = None
        if config.debug_address:
            self._metrics = Metrics(self.builds.__len__)
            pages = {"/metrics": self._metrics.text, "/debug/vars": json_page(self._variables)}
            self._debug = DebugServer(config.debug_address, pages)
        self._health = Health()
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=limits.SERVER)
        add_ControlServicer_to_server(Control(self), self._server)
        add_HealthServicer_to_server(self._health, self._server)
        blobs = BlobReader(self.history.content, worker.content)
        add_ContentServicer_to_server(blobs, self._server)
        self._server.add_generic_rpc_handlers(
            (forwarding_handler(self.builds), trace_handler(self._client_spans))
        )
        self._listeners = Listeners(
            tls=config.tls,
            uid=config.uid,
            gid=config.gid,
            passed=take_listeners(os.environ),
            may_be_open=config.may_be_open,
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._builds: set[asyncio.Task[Any]] = set()
        self._is_stopping = False

    async def start(self) -> None:
        """Listen, and take calls.

        Raises:
            ToranaError: an address cannot be used.
        """
        addresses = [parse_address(text) for text in self.config.addresses]
        await self._listeners.bind(self._server, addresses)
        await self._server.start()
        await self._listeners.serve()
        if self._spans is not None:
            self._trace_socket = await TraceSocket.open(self.worker.root, self._client_spans)
            self.worker.trace_socket = self._trace_socket.path
        self._spawn(self.housekeeping.run(), self._tasks)
        if self._debug is not None:
            self._debug.start()
        for address in addresses:
            log.info("running server on %s", address)

    async def build(self, wanted: WantedBuild) -> dict[str, str]:
        """Run a build; when the caller is cancelled, so is the build, and waited for."""
        if self._is_stopping:
            raise StoppingError("daemon is stopping")
        task = self._spawn(self._solving.run(wanted), self._builds)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise

    async def drain(self) -> None:
        """Take no new builds, and wait for those that run."""
        self._is_stopping = True
        while self._builds:
            await asyncio.wait(self._builds)

    def cancel_builds(self) -> None:
        """Cancel the builds that run."""
        for task in self._builds:
            task.cancel()

    async def close(self) -> None:
        """End everything; what clients still wait for is cut off after some seconds."""
        self._is_stopping = True
        self.history.end_listening()
        self._health.stop()
        self.sessions.close()
        await self._server.stop(_STOP_GRACE_S)
        self.housekeeping.stop()
        tasks = [*self._builds, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._solving.close()
        await self._listeners.close()
        if self._trace_socket is not None:
            await self._trace_socket.close()
        if self._debug is not None:
            await run_blocking(self._debug.close)
        if self._spans is not None:
            await run_blocking(self._spans.close)
        self.history.close()

    def _build_ended(self, record: BuildRecord, spans: list[Span]) -> None:
        self.housekeeping.build_ended()
        if self._metrics is not None:
            self._metrics.build_ended(record)
        if self._spans is not None:
            self._spawn(run_blocking(self._spans.send, spans), self._tasks)

    def _client_spans(self, request: bytes) -> None:
        if self._spans is not None:
            self._spawn(run_blocking(self._spans.forward, request), self._tasks)

    def _variables(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "root": str(self.worker.root),
            "worker": self.identity.id,
            "builds": len(self.builds),
        }

    def _spawn(
        self, work: Coroutine[Any, Any, Any], owner: set[asyncio.Task[Any]]
    ) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        owner.add(task)
        task.add_done_callback(owner.discard)
        return task
