"""Which planned feature a case needs: rules over what the case uses, not a list of names."""

from __future__ import annotations

from tests.golden.llb.golden import Case


def missing_feature(case: Case) -> str | None:
    """Name a feature of `case` that is not there yet; None if all are."""
    return None
