"""The policy of a client, asked about each source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest

from torana.core.errors import ToranaError
from torana.core.llb import local
from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import (
    Action,
    Rule,
    Selector,
    SourceDeniedError,
    SourcePolicy,
)
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.gateway.bridge.policies import SourcePolicies
from torana.gateway.client.client import ResolvedImage, ResolvedSource
from torana.gateway.daemon.policyverifier import SessionPolicy
from torana.gateway.protocol import policysession_pb2 as pb
from torana.gateway.protocol.errors import error_of, status_of
from torana.gateway.protocol.sourcepolicy_pb2 import PolicyAction
from torana.gateway.session.local import LocalSession
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import Handler, Metadata, Unary

Decide = Callable[[pb.CheckPolicyRequest], pb.CheckPolicyResponse]
IMAGE = SourceOp(identifier="docker-image://docker.io/library/alpine:1")
LINUX = Platform(os="linux", architecture="amd64")


class Verifier:
    """A client with a policy of its own."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self.asked: list[str] = []

    def methods(self) -> Mapping[str, Handler]:
        service = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/"
        return {f"{service}CheckPolicy": Unary(self._check)}

    async def _check(self, data: bytes, metadata: Metadata) -> bytes:
        request = pb.CheckPolicyRequest.FromString(data)
        self.asked.append(request.Source.Source.identifier)
        return self._decide(request).SerializeToString()


def decision(action: PolicyAction.ValueType, *reasons: str, to: str = "") -> pb.CheckPolicyResponse:
    answer = pb.CheckPolicyResponse()
    answer.decision.action = action
    answer.decision.denyMessages.extend(pb.DenyMessage(message=each) for each in reasons)
    if to:
        answer.decision.update.identifier = to
    return answer


@contextmanager
def policies(verifier: Verifier, *rules: Rule) -> Iterator[SourcePolicies]:
    sessions = SessionManager()
    with sessions.registered(LocalSession([verifier], id="s")):
        static = (SourcePolicy(rules=rules),) if rules else ()
        yield SourcePolicies(static, SessionPolicy(sessions, "s"))


async def look_up(
    source: SourceOp, platform: Platform | None, name: str, mode: str
) -> ResolvedSource:
    image = ResolvedImage(ref="r", digest=Digest.of(mode.encode()), config=b"{}")
    return ResolvedSource(identifier=source.identifier, attrs=dict(source.attrs), image=image)


async def test_the_client_may_want_to_know_more() -> None:
    def decide(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        assert request.Platform.OS == "linux"
        if not request.Source.HasField("Image"):
            answer = pb.CheckPolicyResponse()
            answer.request.Source.CopyFrom(request.Source.Source)
            answer.request.ResolveMode = "pull"
            return answer
        assert request.Source.Image.Digest == Digest.of(b"pull")
        assert request.Source.Image.Config == b"{}"
        return decision(PolicyAction.ALLOW)

    verifier = Verifier(decide)
    with policies(verifier) as found:
        assert await found.check(IMAGE, LINUX, look_up) == IMAGE
    assert len(verifier.asked) == 2


async def test_what_the_client_makes_of_it_is_checked_again() -> None:
    def decide(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        is_old = request.Source.Source.identifier == IMAGE.identifier
        new = "docker-image://m.io/alpine:2"
        return decision(PolicyAction.CONVERT, to=new) if is_old else decision(PolicyAction.ALLOW)

    verifier = Verifier(decide)
    with policies(verifier) as found:
        changed = await found.check(IMAGE, None, look_up)
    assert changed.identifier == "docker-image://m.io/alpine:2"
    deny = Rule(action=Action.DENY, selector=Selector(identifier="docker-image://m.io/*"))
    with policies(verifier, deny) as found, pytest.raises(SourceDeniedError):
        await found.check(IMAGE, None, look_up)


async def test_refusals_come_with_reasons() -> None:
    verifier = Verifier(lambda request: decision(PolicyAction.DENY, "too old", "not signed"))
    definition = local("context").marshal()
    with policies(verifier) as found, pytest.raises(SourceDeniedError) as denied:
        await found.changes(definition, look_up)
    assert "error evaluating the source policy: " in str(denied.value)
    status = status_of(denied.value)
    detail = next(d for d in status.details if d.type_url.endswith("DecisionResponse+json"))
    assert b"too old" in detail.value and b"not signed" in detail.value
    assert isinstance(error_of(status), SourceDeniedError)


async def test_clients_that_never_decide() -> None:
    def again(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        answer = pb.CheckPolicyResponse()
        answer.request.Source.CopyFrom(request.Source.Source)
        return answer

    def other(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        answer = again(request)
        answer.request.Source.identifier = "docker-image://other"
        return answer

    def longer(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        return decision(PolicyAction.CONVERT, to=request.Source.Source.identifier + "x")

    for decide, text in (
        (again, "too many policy requests"),
        (longer, "too many policy requests"),
        (other, "different source identifier"),
        (lambda request: pb.CheckPolicyResponse(), "no decision"),
        (lambda request: decision(PolicyAction.CONVERT), "requires updated source"),
    ):
        verifier = Verifier(decide)
        with policies(verifier) as found, pytest.raises(ToranaError, match=text):
            await found.check(IMAGE, None, look_up)
        assert len(verifier.asked) <= 10


async def test_names_of_images_are_full_before_they_are_compared() -> None:
    deny = Rule(action=Action.DENY, selector=Selector(identifier=IMAGE.identifier))
    found = SourcePolicies((SourcePolicy(rules=(deny,)),))
    with pytest.raises(SourceDeniedError):
        await found.check(SourceOp(identifier="docker-image://alpine:1"), None, look_up)
    assert not SourcePolicies()
    malformed = SourceOp(identifier="docker-image://A B")
    assert await found.check(malformed, None, look_up) == malformed


async def test_unknown_clients() -> None:
    sessions = SessionManager(wait_s=0.01)
    found = SourcePolicies((), SessionPolicy(sessions, "nobody"))
    with pytest.raises(ToranaError, match="no active session"):
        await found.check(IMAGE, None, look_up)
