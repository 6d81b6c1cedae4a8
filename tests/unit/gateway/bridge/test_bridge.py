"""The conversation with a frontend, on a client that answers from memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.errors import NotFoundError, ToranaError, UnsupportedError
from torana.core.llb.definition import Definition
from torana.core.llb.policy import Action, InvalidPolicyError, SourceDeniedError
from torana.core.llb.validate import validate
from torana.core.oci.digest import Digest
from torana.gateway.bridge.bridge import Bridge
from torana.gateway.client import client as c
from torana.gateway.client import messages as m
from torana.gateway.client.containers import Container, ContainerSpec
from torana.gateway.protocol import fsutil_pb2, gateway_pb2, ops_pb2, sourcepolicy_pb2
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.protocol.errors import NOT_FOUND, RemoteError
from torana.gateway.protocol.status_pb2 import Status
from torana.gateway.testing.clients import tree


class Tree:
    """A reference whose every file holds its own path."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self.evaluated = 0

    async def read_file(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        end = None if length is None else offset + length
        return path.encode("utf-8", "replace")[offset:end]

    async def read_dir(self, path: str, *, include: str | None = None) -> Sequence[c.Stat]:
        return [c.Stat(path=include or "all", mode=0o100644)]

    async def stat(self, path: str) -> c.Stat:
        raise NotFoundError(f"stat {path}: no such file or directory")

    async def evaluate(self) -> None:
        self.evaluated += 1

    async def definition(self) -> Definition | None:
        return self._definition


class Client:
    """Checks definitions, gives `Tree`s."""

    options: Mapping[str, str] = {}
    session_id = "session"
    workers: Sequence[c.Worker] = ()
    llb_caps = frozenset({"b", "a"})
    gateway_caps = frozenset({"solve.base"})

    def __init__(self) -> None:
        self.requests: list[c.SolveRequest] = []
        self.warnings: list[c.Warning] = []

    async def inputs(self) -> Mapping[str, Definition]:
        return {"tree": tree()}

    async def solve(self, request: c.SolveRequest) -> c.Result:
        self.requests.append(request)
        if request.frontend:
            trees = {"linux/amd64": Tree(tree()), "linux/arm64": Tree(tree())}
            return c.Result(refs=trees, metadata={"key": b"value"})
        if request.definition is None:
            return c.Result()
        validate(request.definition)
        return c.Result(ref=Tree(request.definition))

    async def resolve_image(self, ref: str, **options: Any) -> c.ResolvedImage:
        return c.ResolvedImage(ref=ref, digest=Digest.of(b""), config=b"{}")

    async def resolve_source(
        self, identifier: str, attrs: Mapping[str, str], **options: Any
    ) -> c.ResolvedSource:
        return c.ResolvedSource(identifier=identifier, attrs=attrs)

    async def warn(self, warning: c.Warning) -> None:
        self.warnings.append(warning)

    async def new_container(self, spec: ContainerSpec) -> Container:
        raise UnsupportedError("no containers here")


def bridge() -> Bridge:
    return Bridge(cast("c.Client", Client()))


def request(**members: Any) -> pb.SolveRequest:
    return pb.SolveRequest(allowResultReturn=True, allowResultArrayRef=True, **members)


async def test_ping_sorts_caps() -> None:
    pong = await bridge().ping(pb.PingRequest())
    assert [(cap.ID, cap.Enabled) for cap in pong.LLBCaps] == [("a", True), ("b", True)]


async def test_references_have_ids_and_definitions() -> None:
    made = bridge()
    response = await made.solve(request(Definition=m.definition_message(tree())))
    ref = response.result.ref
    assert len(ref.id) == 25
    assert getattr(ref, "def") == m.definition_message(tree())
    read = await made.read_file(pb.ReadFileRequest(Ref=ref.id, FilePath="/path"))
    assert read.Data == b"/path"
    span = pb.FileRange(Offset=1, Length=2)
    read = await made.read_file(pb.ReadFileRequest(Ref=ref.id, FilePath="/path", Range=span))
    assert read.Data == b"pa"
    listed = await made.read_dir(pb.ReadDirRequest(Ref=ref.id, DirPath="/"))
    assert listed.entries == [fsutil_pb2.Stat(path="all", mode=0o644)]


async def test_scratch_has_an_empty_id() -> None:
    made = bridge()
    response = await made.solve(request())
    assert response.result.WhichOneof("result") == "ref"
    assert response.result.ref == pb.Ref()
    await made.evaluate(pb.EvaluateRequest())


async def test_unknown_references() -> None:
    made = bridge()
    with pytest.raises(ToranaError, match=r"^no such ref: other$"):
        await made.read_file(pb.ReadFileRequest(Ref="other", FilePath="/"))
    with pytest.raises(ToranaError, match=r"^return reference other not found$"):
        await made.return_(pb.ReturnRequest(result=pb.Result(ref=pb.Ref(id="other"))))
    assert not made.has_returned


async def test_old_clients_get_the_old_forms() -> None:
    made = bridge()
    definition = m.definition_message(tree())
    response = await made.solve(pb.SolveRequest(Definition=definition))
    assert len(response.ref) == 25
    assert not response.HasField("result")
    response = await made.solve(pb.SolveRequest(Definition=definition, allowResultReturn=True))
    assert len(response.result.refDeprecated) == 25
    response = await made.solve(pb.SolveRequest(Frontend="f", allowResultReturn=True))
    assert sorted(response.result.refsDeprecated.refs) == ["linux/amd64", "linux/arm64"]
    assert response.result.metadata == {"key": b"value"}


async def test_final_solve_is_the_result() -> None:
    made = bridge()
    attributes = json.dumps({"key": "dmFsdWU="}).encode()
    await made.solve(
        pb.SolveRequest(
            Definition=m.definition_message(tree()), Final=True, ExporterAttr=attributes
        )
    )
    result = await made.returned()
    assert result.ref is not None
    assert result.metadata == {"key": b"value"}


async def test_return_of_a_map() -> None:
    made = bridge()
    response = await made.solve(request(Frontend="f"))
    await made.return_(pb.ReturnRequest(result=response.result))
    result = await made.returned()
    assert sorted(result.refs) == ["linux/amd64", "linux/arm64"]
    with pytest.raises(ToranaError, match="gateway result is already set"):
        await made.return_(pb.ReturnRequest(result=pb.Result()))


async def test_return_of_nothing_is_scratch() -> None:
    made = bridge()
    await made.return_(pb.ReturnRequest())
    assert await made.returned() == c.Result()


async def test_return_of_an_error_keeps_its_code() -> None:
    made = bridge()
    await made.return_(pb.ReturnRequest(error=Status(code=9, message="not now")))
    with pytest.raises(RemoteError, match="not now") as caught:
        await made.returned()
    assert caught.value.status.code == 9


async def test_policies_of_a_frontend_are_handed_on_or_applied() -> None:
    selector = sourcepolicy_pb2.Selector(identifier="docker-image://*")
    rule = sourcepolicy_pb2.Rule(action=sourcepolicy_pb2.DENY, selector=selector)
    policy = sourcepolicy_pb2.Policy(version=1, rules=[rule])
    made = bridge()
    await made.solve(request(SourcePolicies=[policy]))
    (handed,) = cast("Client", made.client).requests[0].source_policies
    assert handed.rules[0].action is Action.DENY
    source = ops_pb2.SourceOp(identifier="docker-image://docker.io/library/a:1")
    with pytest.raises(SourceDeniedError):
        await made.resolve_source_meta(
            pb.ResolveSourceMetaRequest(Source=source, SourcePolicies=[policy])
        )
    with pytest.raises(SourceDeniedError):
        await made.resolve_image_config(
            pb.ResolveImageConfigRequest(Ref="a:1", SourcePolicies=[policy])
        )
    unknown: Any = 7
    rule.action = unknown
    with pytest.raises(InvalidPolicyError):
        await made.solve(request(SourcePolicies=[sourcepolicy_pb2.Policy(version=1, rules=[rule])]))


async def test_unknown_container() -> None:
    for call in (
        bridge().release_container(pb.ReleaseContainerRequest(ContainerID="c")),
        bridge().read_file_container(pb.ReadFileRequest(Ref="c", FilePath="/")),
    ):
        with pytest.raises(RemoteError) as caught:
            await call
        assert caught.value.status.code == NOT_FOUND


async def test_closed_bridge_answers_nothing_more() -> None:
    made = bridge()
    waiting = asyncio.create_task(made.returned())
    await asyncio.sleep(0)
    await made.close(ToranaError("build was cancelled"))
    with pytest.raises(ToranaError, match="build was cancelled"):
        await waiting
    with pytest.raises(ToranaError, match="build was cancelled"):
        await made.ping(pb.PingRequest())


async def test_last_calls_are_kept() -> None:
    made = bridge()
    for number in range(20):
        with pytest.raises(ToranaError):
            await made.evaluate(pb.EvaluateRequest(Ref=str(number)))
        await made.resolve_source_meta(
            pb.ResolveSourceMetaRequest(Source=ops_pb2.SourceOp(identifier=f"local://{number}"))
        )
    assert len(made.calls) == 8
    assert made.calls[-1] == "ResolveSourceMeta(local://19)"


# Whatever a frontend sends, it gets an answer or an error that it may know of.

_METHODS = {
    "solve": pb.SolveRequest,
    "read_file": pb.ReadFileRequest,
    "read_dir": pb.ReadDirRequest,
    "stat_file": pb.StatFileRequest,
    "evaluate": pb.EvaluateRequest,
    "resolve_image_config": pb.ResolveImageConfigRequest,
    "resolve_source_meta": pb.ResolveSourceMetaRequest,
    "warn": pb.WarnRequest,
    "return_": pb.ReturnRequest,
    "new_container": pb.NewContainerRequest,
    "release_container": pb.ReleaseContainerRequest,
}
_NUMBERS = st.sampled_from([0, 1, -1, 2, 7, 2**31 - 1, -(2**31)])


def messages(kind: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Make messages with any fields set, values out of range included."""

    def build(draw: Any) -> Any:
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if depth == 0 or not draw(st.booleans()):
                continue
            _fill(draw, message, field, depth)
        return message

    return st.composite(build)()


def _fill(draw: Any, message: Any, field: Any, depth: int) -> None:
    target = getattr(message, field.name)
    sub = field.message_type
    if sub is not None and sub.GetOptions().map_entry:
        value = sub.fields_by_name["value"]
        if value.message_type is None:
            target[draw(st.text(max_size=3))] = draw(_scalars(value))
        else:
            inner = draw(messages(type(target.GetEntryClass()().value), depth - 1))
            target[draw(st.text(max_size=3))].CopyFrom(inner)
    elif sub is not None:
        one = target.add() if field.is_repeated else target
        one.MergeFrom(draw(messages(type(one), depth - 1)))
        if not field.is_repeated:
            one.SetInParent()
    elif field.is_repeated:
        target.append(draw(_scalars(field)))
    else:
        setattr(message, field.name, draw(_scalars(field)))


def _scalars(field: Any) -> st.SearchStrategy[Any]:
    kinds = field.cpp_type
    if kinds == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return st.binary(max_size=6)
        return st.text(st.characters(codec="utf-8"), max_size=6)
    if kinds == field.CPPTYPE_BOOL:
        return st.booleans()
    if kinds in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return _NUMBERS.map(abs)
    if kinds in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return st.just(0.5)
    return _NUMBERS


@given(st.data(), st.sampled_from(sorted(_METHODS)))
@settings(max_examples=100)
async def test_any_message_is_answered(data: st.DataObject, method: str) -> None:
    made = bridge()
    message = data.draw(messages(_METHODS[method]))
    try:
        await getattr(made, method)(message)
    except ToranaError as err:
        assert err.message


@given(st.binary(max_size=200))
@settings(max_examples=100)
async def test_any_op_is_answered(op: bytes) -> None:
    definition = ops_pb2.Definition()
    getattr(definition, "def").append(op)
    with contextlib.suppress(ToranaError):
        await bridge().solve(request(Definition=definition))


def test_every_method_of_the_service_has_one_here() -> None:
    from torana.gateway.bridge.service import BridgeService

    service = gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"]
    for method in service.methods:
        assert method.name in vars(BridgeService), method.name
