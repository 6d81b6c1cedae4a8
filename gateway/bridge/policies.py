"""`SourcePolicies`: what the policies of a build make of its sources.

Spec: reference of the solver, section 2; BuildKit asks its client after the rules it was given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from torana.core.errors import ToranaError
from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.core.llb.policy import InvalidPolicyError, Policy, apply_policies
from torana.core.llb.validate import validate
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.gateway.client.client import ResolvedSource

_IMAGE: Final = "docker-image://"
_MAX_CHECKS: Final = 10


LookUp = Callable[[o.SourceOp, Platform | None, str, str], Awaitable[ResolvedSource]]
"""Looks up a source, whatever policies say; takes a name to show, and an image's resolve mode."""


class PolicyVerifier(Protocol):
    """Somebody who decides about each source: the client of a build."""

    async def check(
        self, source: o.SourceOp, platform: Platform | None, look_up: LookUp
    ) -> o.SourceOp:
        """Give the source, or another one to take its place, which is then checked, too.

        Raises:
            ToranaError: it is not allowed, or there is no way to find out.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourcePolicies:
    """Rules, and perhaps somebody to ask when they have nothing against a source."""

    rules: tuple[Policy, ...] = ()
    verifier: PolicyVerifier | None = None

    def __bool__(self) -> bool:
        return bool(self.rules) or self.verifier is not None

    def also(self, rules: Sequence[Policy]) -> SourcePolicies:
        """Give the same with more rules."""
        return replace(self, rules=(*self.rules, *rules)) if rules else self

    async def check(
        self, source: o.SourceOp, platform: Platform | None, look_up: LookUp
    ) -> o.SourceOp:
        """Give what a source becomes.

        Raises:
            ToranaError: it is not allowed.
        """
        if not self:
            return source
        for _ in range(_MAX_CHECKS):
            source = apply_policies(self.rules, _normalized(source))
            if self.verifier is None:
                return source
            decided = await self.verifier.check(source, platform, look_up)
            if decided == source:
                return source
            source = decided
        raise InvalidPolicyError("too many policy requests")

    async def changes(self, definition: Definition, look_up: LookUp) -> Mapping[Digest, o.SourceOp]:
        """Give what the sources of a definition become, by digest.

        Raises:
            SourceDeniedError: one of them is not allowed.
            InvalidLLBError: the definition is not valid.
        """
        if not self:
            return {}
        sources = {
            digest: op
            for digest, op in validate(definition).ordered.items()
            if isinstance(op.kind, o.SourceOp)
        }

        async def one(op: o.Op) -> o.SourceOp:
            assert isinstance(op.kind, o.SourceOp)
            try:
                return await self.check(op.kind, op.platform, look_up)
            except ToranaError as err:
                err.message = f"failed to load LLB: error evaluating the source policy: {err}"
                err.args = (err.message,)
                raise

        found = await asyncio.gather(*map(one, sources.values()))
        return dict(zip(sources, found, strict=True))


def _normalized(source: o.SourceOp) -> o.SourceOp:
    """Write an image's name in full, since rules are made for full names."""
    if not source.identifier.startswith(_IMAGE):
        return source
    try:
        reference = parse_reference(source.identifier.removeprefix(_IMAGE))
    except InvalidReferenceError:
        return source
    return replace(source, identifier=f"{_IMAGE}{reference}")
