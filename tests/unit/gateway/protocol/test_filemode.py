"""Go's file modes."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.gateway.protocol import filemode

KINDS = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: 0x80000000,
    stat.S_IFLNK: 0x08000000,
    stat.S_IFBLK: 0x04000000,
    stat.S_IFCHR: 0x04200000,
    stat.S_IFIFO: 0x02000000,
    stat.S_IFSOCK: 0x01000000,
}


@pytest.mark.parametrize(("posix", "go"), KINDS.items())
def test_types(posix: int, go: int) -> None:
    assert filemode.to_go(posix | 0o640) == go | 0o640
    assert filemode.from_go(go | 0o640) == posix | 0o640


def test_special_bits() -> None:
    assert filemode.to_go(stat.S_IFREG | 0o7000) == 0x00D00000
    assert filemode.permissions(0x80D00000 | 0o755) == 0o7755


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 0o7777))
def test_back_and_forth(kind: int, mode: int) -> None:
    assert filemode.from_go(filemode.to_go(kind | mode)) == kind | mode


def test_unknown_types_are_refused() -> None:
    with pytest.raises(ValueError):
        filemode.from_go(filemode.IRREGULAR | 0o644)
