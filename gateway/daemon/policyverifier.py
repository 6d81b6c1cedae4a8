"""`SessionPolicy`: asks the client of a build about each of its sources.

Spec: wire reference, session, Policy.
"""

from __future__ import annotations

from typing import Final

from torana.core.errors import UserError
from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import InvalidPolicyError, SourceDeniedError
from torana.core.oci.platform import Platform
from torana.gateway.bridge.policies import LookUp
from torana.gateway.client import messages as m
from torana.gateway.client.client import ResolvedSource
from torana.gateway.protocol import ops_pb2
from torana.gateway.protocol import policysession_pb2 as pb
from torana.gateway.protocol.sourcepolicy_pb2 import PolicyAction
from torana.gateway.session.manager import SessionManager
from torana.gateway.session.transport import call

_METHOD: Final = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
_MAX_REQUESTS: Final = 10


class SessionPolicy:
    """The policy of one session."""

    def __init__(self, sessions: SessionManager, session_id: str) -> None:
        self._sessions = sessions
        self._session_id = session_id

    async def check(self, source: SourceOp, platform: Platform | None, look_up: LookUp) -> SourceOp:
        """Ask until there is a decision, with what the client wants to know about the source.

        Raises:
            SourceDeniedError: the client does not allow it.
            ToranaError: it does not answer as it should.
        """
        session = await self._sessions.get(self._session_id)
        request = pb.CheckPolicyRequest()
        if platform is not None:
            request.Platform.CopyFrom(m.to_message(platform, ops_pb2.Platform))
        request.Source.Source.CopyFrom(m.to_message(source, ops_pb2.SourceOp))
        for _ in range(_MAX_REQUESTS):
            answer = await call(session, _METHOD, request, pb.CheckPolicyResponse)
            if answer.WhichOneof("result") != "request":
                return _decided(source, answer)
            found = await self._look_up(source, answer, look_up)
            no_config = answer.request.Image.NoConfig
            request.Source.CopyFrom(m.source_message(found, no_config=no_config))
        raise InvalidPolicyError("too many policy requests")

    async def _look_up(
        self, source: SourceOp, answer: pb.CheckPolicyResponse, look_up: LookUp
    ) -> ResolvedSource:
        wanted = answer.request
        if wanted.Source.identifier != source.identifier:
            raise UserError(
                f"policy requested different source identifier: "
                f'"{wanted.Source.identifier}" != "{source.identifier}"'
            )
        if dict(wanted.Source.attrs) != dict(source.attrs):
            raise UserError("policy requested different source attrs")
        return await look_up(
            source,
            m.platform_of(wanted, "Platform"),
            wanted.LogName,
            wanted.ResolveMode or "default",
        )


def _decided(source: SourceOp, answer: pb.CheckPolicyResponse) -> SourceOp:
    if answer.WhichOneof("result") is None:
        raise InvalidPolicyError("no decision in policy response")
    decision = answer.decision
    if decision.action == PolicyAction.ALLOW:
        return source
    if decision.action == PolicyAction.CONVERT:
        if not decision.HasField("update"):
            raise InvalidPolicyError("convert action requires updated source")
        return SourceOp(identifier=decision.update.identifier, attrs=dict(decision.update.attrs))
    error = SourceDeniedError(f'source "{source.identifier}" not allowed by policy: action DENY')
    error.reasons = [each.message for each in decision.denyMessages]
    raise error
