"""Policies: what is kept, and the defaults."""

from __future__ import annotations

import pytest

from torana.core.cache.policy import Disk, GCPolicy, default_policies, keep_bytes, policies_of
from torana.core.quantities import Size
from torana.gateway.daemon.config import GCRule

GB = 10**9


@pytest.mark.parametrize(
    ("limits", "total", "free", "expected"),
    [
        ({}, 50, 0, 0),
        ({"max_used_bytes": 30}, 50, 0, 30),
        ({"reserved_bytes": 20}, 50, 0, 20),
        ({"reserved_bytes": 40, "max_used_bytes": 30}, 50, 0, 40),
        ({"min_free_bytes": 10}, 50, 10, None),  # there is room
        ({"min_free_bytes": 10}, 50, 4, 44),
        ({"min_free_bytes": 10, "max_used_bytes": 30}, 50, 4, 30),
        ({"min_free_bytes": 40, "max_used_bytes": 30}, 50, 4, 14),
        ({"min_free_bytes": 90, "max_used_bytes": 30}, 50, 4, 0),  # more than there is
        ({"min_free_bytes": 90, "reserved_bytes": 5}, 50, 4, 5),
        ({"min_free_bytes": 10, "reserved_bytes": 60}, 50, 4, 60),
    ],
)
def test_keep_bytes(limits: dict[str, int], total: int, free: int, expected: int | None) -> None:
    policy = GCPolicy(**limits)  # type: ignore[arg-type]  # names are checked by the class
    assert keep_bytes(policy, total, Disk(100, free)) == expected


def test_defaults_on_a_big_disk() -> None:
    easy, old, capped, everything = default_policies(Disk(2000 << 30, 0))
    assert easy.filters == (
        "type==source.local",
        "type==exec.cachemount",
        "type==source.git.checkout",
    )
    assert (easy.keep_duration_s, easy.max_used_bytes) == (48 * 3600, 512_000_000)
    assert old.keep_duration_s == 60 * 24 * 3600
    for policy in (old, capped, everything):
        assert policy.reserved_bytes == 10 * GB
        assert policy.max_used_bytes == 100 * GB
        assert policy.min_free_bytes == 401 * GB
    assert [policy.is_all for policy in (easy, old, capped, everything)] == [False] * 3 + [True]


def test_defaults_on_a_small_disk_are_shares_rounded_up() -> None:
    capped = default_policies(Disk(20 << 30, 0))[2]
    assert (capped.reserved_bytes, capped.max_used_bytes) == (3 * GB, 17 * GB)
    assert capped.min_free_bytes == 5 * GB


def test_defaults_on_a_disk_of_unknown_size() -> None:
    capped = default_policies(Disk(0, 0))[2]
    assert capped.reserved_bytes == capped.max_used_bytes == capped.min_free_bytes == 2 * GB


def test_one_limit_replaces_all_automatic_ones() -> None:
    capped = default_policies(Disk(20 << 30, 0), max_used=Size(percent=50))[2]
    assert (capped.reserved_bytes, capped.max_used_bytes, capped.min_free_bytes) == (0, 11 * GB, 0)


def test_rules_of_a_configuration() -> None:
    rule = GCRule(all=True, filters=("mutable",), keep_duration_s=5, max_used=Size(percent=10))
    assert policies_of([rule], Disk(20 << 30, 0)) == (
        GCPolicy(is_all=True, filters=("mutable",), keep_duration_s=5, max_used_bytes=3 * GB),
    )
