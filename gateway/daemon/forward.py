"""LLBBridge calls on the control socket, each led to the bridge of its build.

Clients run a frontend of their own and name the build in the call's metadata. Calls may come before
their build does, and must fail when it is over, or the client waits for ever.

Spec: wire reference, control, "How buildctl really builds", routing rules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf.message_factory import GetMessageClass

from torana.core.errors import ToranaError
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.bridge.service import BridgeService
from torana.gateway.daemon.builds import BRIDGE_WAIT_S, Builds, NoSuchJobError
from torana.gateway.protocol import gateway_pb2 as pb

_BUILD_ID: Final = "buildkit-controlapi-buildid"
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["LLBBridge"]


class NoBuildIdError(ToranaError):
    """A call does not say which build it belongs to."""

    code = "NO_BUILD_ID"


def forwarding_handler(builds: Builds) -> grpc.GenericRpcHandler:
    """Give a handler of all methods of the service; `Build.bridge` answers them."""
    handlers = {}
    for method in _SERVICE.methods:
        is_stream = method.name == "ExecProcess"
        make = grpc.stream_stream_rpc_method_handler if is_stream else _unary
        forward = _forward_stream if is_stream else _forward
        handlers[method.name] = make(
            forward(builds, method.name),
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers)


_unary = grpc.unary_unary_rpc_method_handler


def _forward(builds: Builds, name: str) -> Any:
    async def call(request: Any, context: Any) -> Any:
        service = await _service(builds, context, name)
        return await getattr(service, name)(request, context)

    return call


def _forward_stream(builds: Builds, name: str) -> Any:
    async def call(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        service = await _service(builds, context, name)
        async for response in getattr(service, name)(requests, context):
            yield response

    return call


async def _service(builds: Builds, context: Any, name: str) -> BridgeService:
    metadata = context.invocation_metadata() or ()
    refs = [value for key, value in metadata if key == _BUILD_ID]
    if len(refs) != 1:
        raise NoBuildIdError("no buildid found in context")
    try:
        build = await builds.get(str(refs[0]), BRIDGE_WAIT_S, is_running=True)
        if build.bridge is None:
            raise NoSuchJobError(f"no such job {build.ref}")
    except NoSuchJobError as err:
        raise NoSuchJobError(f"forwarding {name}: {err.message}") from None
    bridge = build.bridge

    async def find(context: object) -> Bridge:
        return bridge

    return BridgeService(find)
