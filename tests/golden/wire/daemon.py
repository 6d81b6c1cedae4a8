"""`RecordedDaemon`: the stock daemon as it was recorded, for a client that is tested.

It answers each call as the daemon did, when it did: after what the caller had sent by then, and
after the calls that had ended before. Inside of sessions it makes the recorded calls.

The rules are in README.md, "Playing the daemon to a client".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc
import grpc.aio
from tests.golden.wire.player import HEALTH, Played, play
from tests.golden.wire.recording import is_unary

from torana.core.errors import ToranaError
from torana.gateway.protocol.control_pb2 import BytesMessage
from torana.gateway.protocol.limits import SERVER
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Session
from torana.gateway.testing.recordings import Event, Recording, Rpc

LIST_WORKERS: Final = "/moby.buildkit.v1.Control/ListWorkers"
SESSION: Final = "/moby.buildkit.v1.Control/Session"
_UNTIED: Final = ("Session", "Export")  # calls whose ends nobody waits for
_TIED: Final = ("Solve", "Status")  # calls whose answers wait for other calls
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class RecordedDaemon(grpc.GenericRpcHandler):
    """One recording. What a client does is noted by number of the recorded call."""

    def __init__(self, recording: Recording) -> None:
        self.requests: dict[int, list[bytes]] = defaultdict(list)
        self.metadata: dict[int, list[tuple[str, Any]]] = {}
        self.inner: dict[int, Played] = {}
        self.unexpected: list[str] = []  # calls that were not recorded
        # Without those of a frontend: they are between it and the daemon.
        self._rpcs = [rpc for rpc in recording.rpcs.values() if rpc.caller != "frontend"]
        self._free: dict[str, list[Rpc]] = defaultdict(list)
        for rpc in self._rpcs:
            if rpc.caller == "client":
                self._free[rpc.method].append(rpc)
        self._tunnels = {
            each["rpc"]: each["id"] for each in recording.scenario["connections"] if "rpc" in each
        }
        self._begun = {rpc.number: asyncio.Event() for rpc in self._rpcs}
        self._ended = {rpc.number: asyncio.Event() for rpc in self._rpcs}
        self._sessions = SessionManager()

    @classmethod
    @asynccontextmanager
    async def serve(cls, recording: Recording, path: str) -> AsyncIterator[RecordedDaemon]:
        """Listen on a new unix socket while entered."""
        daemon = cls(recording)
        server = grpc.aio.server(options=SERVER)
        server.add_generic_rpc_handlers((daemon,))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            yield daemon
        finally:
            daemon._sessions.close()
            await server.stop(None)

    def uncalled(self) -> list[str]:
        """Give the recorded calls that the client has not made."""
        return [rpc.method for left in self._free.values() for rpc in left]

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if not self._free[method]:
            if method == LIST_WORKERS:  # how our client sees that somebody is there
                return grpc.unary_unary_rpc_method_handler(self._list_workers)
            self.unexpected.append(method)
            return None
        rpc = self._free[method].pop(0)
        if method == SESSION:

            async def serve(requests: object, context: Any) -> None:
                await self._serve_session(rpc, context)

            return grpc.stream_stream_rpc_method_handler(
                serve,
                request_deserializer=BytesMessage.FromString,
                response_serializer=BytesMessage.SerializeToString,
            )

        async def answer(requests: AsyncIterator[bytes], context: Any) -> None:
            await self._answer(rpc, requests, context)

        return grpc.stream_stream_rpc_method_handler(answer)

    async def _list_workers(self, request: bytes, context: Any) -> bytes:
        recorded = [rpc for rpc in self._rpcs if rpc.method == LIST_WORKERS]
        return recorded[0].messages(of_caller=False)[0] if recorded else b""

    async def _answer(self, rpc: Rpc, requests: AsyncIterator[bytes], context: Any) -> None:
        self.metadata[rpc.number] = list(context.invocation_metadata() or ())
        try:
            for event in rpc.events:
                if event.sender == "client":
                    if event.kind == "message":
                        message = await anext(aiter(requests), None)
                        if message is not None:
                            self.requests[rpc.number].append(message)
                        self._begun[rpc.number].set()
                    elif event.kind == "reset":
                        await asyncio.Event().wait()  # until the caller gives up
                    continue
                await self._wait_for(rpc, event)
                if event.kind == "headers":
                    await context.send_initial_metadata(())
                elif event.kind == "message":
                    await context.write(event.data)
                elif event.kind == "status" and event.code:
                    status = event.status()
                    if status.details:
                        context.set_trailing_metadata(
                            (("grpc-status-details-bin", status.SerializeToString()),)
                        )
                    context.set_code(_CODES[status.code])
                    context.set_details(event.text)
        finally:
            self._ended[rpc.number].set()

    async def _wait_for(self, rpc: Rpc, event: Event) -> None:
        """Wait for the calls that had ended before `event` of the daemon."""
        for other in self._rpcs:
            end = other.end
            if other is rpc or end is None or end.index > event.index:
                continue
            if other.method.startswith(HEALTH) or other.method.endswith(_UNTIED):
                continue
            if other.caller == "daemon" or rpc.method.endswith(_TIED):
                await self._ended[other.number].wait()

    # Sessions

    async def _serve_session(self, rpc: Rpc, context: Any) -> None:
        self.metadata[rpc.number] = metadata = list(context.invocation_metadata() or ())
        id = str(dict(metadata)["x-docker-expose-session-uuid"])
        playing = asyncio.ensure_future(self._play_inner(id, self._tunnels[rpc.number]))
        try:
            await self._sessions.serve(context)
        finally:
            playing.cancel()
            with suppress(asyncio.CancelledError, ToranaError):
                await playing
            self._ended[rpc.number].set()

    async def _play_inner(self, id: str, tunnel: str) -> None:
        session = await self._sessions.get(id)
        async with asyncio.TaskGroup() as group:
            for rpc in self._rpcs:
                if rpc.connection == tunnel and not rpc.method.startswith(HEALTH):
                    group.create_task(self._play(session, rpc))

    async def _play(self, session: Session, rpc: Rpc) -> None:
        for other in self._rpcs:  # a daemon asks for what it was asked for
            if other.start < rpc.start and other.method.endswith(("Solve", "Return")):
                await self._begun[other.number].wait()
        await self._wait_for(rpc, rpc.events[0])
        try:
            self.inner[rpc.number] = await play(session, rpc, is_unary=is_unary(rpc))
        finally:
            self._ended[rpc.number].set()
