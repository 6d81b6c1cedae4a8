"""Byte locks exclude descriptors, threads and processes alike."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from torana.core.bytelocks import ByteLocks, lock_number


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    one, two = ByteLocks(tmp_path / "locks/file"), ByteLocks(tmp_path / "locks/file")
    lock = one.try_lock(5)
    assert lock is not None
    assert one.try_lock(5) is None
    assert two.try_lock(5) is None
    assert two.is_locked(5)
    other = two.try_lock(6)
    assert other is not None
    lock.close()
    lock.close()
    assert not two.is_locked(5)
    assert two.is_locked(6)
    other.close()


def test_the_kernel_ends_it_with_the_process(tmp_path: Path) -> None:
    locks = ByteLocks(tmp_path / "file")
    go_read, go_write = os.pipe()
    told_read, told_write = os.pipe()
    child = os.fork()
    if child == 0:
        locks.try_lock(1)
        os.write(told_write, b"x")
        os.close(go_write)
        os.read(go_read, 1)
        os._exit(0)
    os.read(told_read, 1)
    assert locks.is_locked(1)
    for descriptor in (go_write, go_read, told_read, told_write):
        os.close(descriptor)
    os.waitpid(child, 0)
    assert not locks.is_locked(1)


async def test_waiting_ends_when_the_holder_lets_go(tmp_path: Path) -> None:
    locks = ByteLocks(tmp_path / "file")
    lock = locks.try_lock(1)
    assert lock is not None
    waiting = asyncio.create_task(locks.lock(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    lock.close()
    (await waiting).close()


def test_numbers_are_stable_and_fit_an_offset() -> None:
    assert lock_number("a") == lock_number("a") != lock_number("b")
    assert all(0 <= lock_number(str(number)) < 1 << 62 for number in range(100))
