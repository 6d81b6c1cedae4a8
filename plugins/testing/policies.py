"""`PolicySuite`: what every policy must do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from torana.core.errors import UserError
from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import Policy, apply_policies


class PolicySuite:
    """Subclasses have the fixtures `policy`, `allowed` (sources, each of them allowed) and
    `denied` (the same for denied ones).
    """

    def test_allows(self, policy: Policy, allowed: Sequence[SourceOp]) -> None:
        for source in allowed:
            assert apply_policies([policy], source).identifier

    def test_denies_with_a_reason_that_names_the_source(
        self, policy: Policy, denied: Sequence[SourceOp]
    ) -> None:
        for source in denied:
            with pytest.raises(UserError) as caught:
                apply_policies([policy], source)
            assert source.identifier.partition("://")[2] in str(caught.value)

    def test_answers_the_same_again(self, policy: Policy, allowed: Sequence[SourceOp]) -> None:
        for source in allowed:
            assert policy.apply(source) == policy.apply(source)

    def test_what_takes_a_place_is_allowed_itself(
        self, policy: Policy, allowed: Sequence[SourceOp]
    ) -> None:
        for source in allowed:
            changed = apply_policies([policy], source)
            assert policy.apply(changed) == changed

    def test_leaves_its_argument_alone(self, policy: Policy, allowed: Sequence[SourceOp]) -> None:
        for source in allowed:
            before = (source.identifier, dict(source.attrs))
            policy.apply(source)
            assert (source.identifier, dict(source.attrs)) == before
