"""Clients that are lost while the daemon builds for them."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from torana.gateway.protocol import control_pb2 as pb
from torana.gateway.protocol.calls import remote_errors
from torana.gateway.protocol.control_pb2_grpc import ControlStub
from torana.gateway.protocol.gateway_pb2 import PingRequest
from torana.gateway.protocol.gateway_pb2_grpc import LLBBridgeStub
from torana.gateway.session.client import attach_control, new_id, session_metadata
from torana.gateway.session.health import CUSTOM_TIMEOUT
from torana.gateway.session.transport import SessionLostError


async def solve(channel: grpc.aio.Channel, session: str, ref: str) -> None:
    """Begin a build that waits for its client to drive it."""
    control: Any = ControlStub(channel)
    with remote_errors():
        await control.Solve(pb.SolveRequest(Ref=ref, Session=session, Internal=True))


async def test_a_client_that_hangs_fails_its_build(channel: grpc.aio.Channel) -> None:
    id = new_id()
    control: Any = ControlStub(channel)
    metadata = (*session_metadata(id, "", []), (CUSTOM_TIMEOUT, "1000"))
    call = control.Session(metadata=metadata)  # and never a byte on it
    try:
        await call.initial_metadata()
        async with asyncio.timeout(30):
            with pytest.raises(SessionLostError, match=f"client session {id} was lost"):
                await solve(channel, id, new_id())
    finally:
        call.cancel()


async def test_a_client_that_leaves_fails_its_build(channel: grpc.aio.Channel) -> None:
    id, ref = new_id(), new_id()
    bridge: Any = LLBBridgeStub(channel)
    async with attach_control(channel, [], id=id):
        solving = asyncio.ensure_future(solve(channel, id, ref))
        # Answered when the build is there.
        await bridge.Ping(PingRequest(), metadata=(("buildkit-controlapi-buildid", ref),))
    async with asyncio.timeout(30):
        with pytest.raises(SessionLostError, match="was lost"):
            await solving
