"""Holds, and how other processes see them."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.core.cache.stores import Store

from torana.core.cache.lease import HoldKind, all_held, is_held

REF = HoldKind.REF


def test_a_hold_is_seen_until_its_last_release_is_settled(store: Store) -> None:
    lease = store.refs.lease
    lease.hold(REF, "a")
    lease.hold(REF, "a")
    lease.release(REF, "a")
    lease.settle()
    assert is_held(store.database, REF, "a")
    lease.release(REF, "a")
    assert is_held(store.database, REF, "a")  # idle
    lease.settle()
    assert not is_held(store.database, REF, "a")


def test_idle_holds_last_as_long_as_the_builds_that_ran_then(store: Store) -> None:
    lease = store.refs.lease
    with lease.build():
        with lease.build():
            lease.hold_for_builds(HoldKind.BLOB, "b")
        assert is_held(store.database, HoldKind.BLOB, "b")
    assert not is_held(store.database, HoldKind.BLOB, "b")


def test_a_build_that_began_later_does_not_prolong_a_hold(store: Store) -> None:
    lease = store.refs.lease
    first = lease.build()
    first.__enter__()
    lease.hold_for_builds(HoldKind.BLOB, "b")
    with lease.build():
        first.__exit__(None, None, None)
        assert not is_held(store.database, HoldKind.BLOB, "b")


def test_an_idle_hold_is_taken_up_again(store: Store) -> None:
    lease = store.refs.lease
    lease.hold(REF, "a")
    lease.release(REF, "a")
    lease.hold(REF, "a")
    lease.settle()
    assert is_held(store.database, REF, "a")
    assert lease.held() == {(REF, "a")}


def test_kinds_and_leases_are_apart(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    one.refs.lease.hold(REF, "a")
    two.refs.lease.hold(REF, "a")
    assert not is_held(one.database, HoldKind.BLOB, "a")
    one.close()
    assert all_held(two.database, REF) == {"a"}
    two.close()


def test_a_dead_process_is_known_by_its_lock(open_store: Callable[[], Store]) -> None:
    alive, dead, judge = open_store(), open_store(), open_store()
    alive.refs.lease.hold(REF, "a")
    dead.refs.lease.hold(REF, "b")
    assert judge.refs.lease.stale() == []
    dead.die()
    (stale,) = judge.refs.lease.stale()
    assert not stale.is_of_earlier_boot
    judge.refs.lease.drop_holds([stale])
    assert all_held(judge.database, REF) == {"a"}
    assert judge.refs.lease.stale() == [stale]
    judge.refs.lease.drop([stale])
    assert judge.refs.lease.stale() == []


def test_a_lease_of_an_earlier_boot_is_told(open_store: Callable[[], Store]) -> None:
    dead, judge = open_store(), open_store()
    dead.refs.lease.hold(REF, "b")
    dead.die()
    judge.database.execute("UPDATE leases SET boot = 'another'")
    assert [lease.is_of_earlier_boot for lease in judge.refs.lease.stale()] == [True]


def test_who_holds_nothing_leaves_no_trace(store: Store) -> None:
    store.refs.close()
    assert store.database.rows("SELECT * FROM leases") == []
