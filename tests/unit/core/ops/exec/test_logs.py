from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torana.core.ops.exec.logs import LogLimiter, LogLimits

UNLIMITED = LogLimits(size_bytes=-1, bytes_per_s=-1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(limits: LogLimits) -> tuple[LogLimiter, list[tuple[int, bytes]], Clock]:
    seen: list[tuple[int, bytes]] = []
    clock = Clock()
    return LogLimiter(lambda s, d: seen.append((s, d)), limits, clock=clock), seen, clock


def test_size() -> None:
    log, seen, _ = limiter(LogLimits(size_bytes=10, bytes_per_s=-1))
    log.write(1, b"12345678")
    log.write(1, b"abcd")
    log.write(1, b"efgh")
    log.write(2, b"other")
    assert seen == [
        (1, b"12345678"),
        (1, b"ab\n[output clipped, log limit 10B reached]\n"),
        (2, b"other"),
    ]
    log.flush_clipped()
    assert seen[3:] == [(1, b"cdefgh")]
    assert log.last() == b"12345678abcdefghother"


def test_speed_recovers() -> None:
    log, seen, clock = limiter(LogLimits(size_bytes=-1, bytes_per_s=200 << 10))
    log.write(1, b"x" * (201 << 10))
    assert seen[0][1].endswith(b"\n[output clipped, log limit 200KiB/s reached]\n")
    clock.now += 5
    log.write(1, b"again")
    assert seen[1:] == [(1, b"again")]


def test_defaults_are_named_as_in_buildkit() -> None:
    log, seen, clock = limiter(LogLimits())
    log.write(1, b"x")
    clock.now += 3600
    log.write(1, b"x" * (2 << 20))
    assert seen[1][1].endswith(b"\n[output clipped, log limit 2MiB reached]\n")


def test_only_the_end_is_kept() -> None:
    log, seen, _ = limiter(LogLimits(size_bytes=0, bytes_per_s=-1))
    for i in range(10):
        log.write(1, bytes([65 + i]) * (100 << 10))
    log.flush_clipped()
    tail = seen[-1][1]
    assert len(tail) == 256 << 10
    assert tail.endswith(b"J" * (100 << 10))
    assert log.last() == tail


@given(st.lists(st.binary(max_size=50)))
def test_no_limits_no_change(chunks: list[bytes]) -> None:
    log, seen, _ = limiter(UNLIMITED)
    for chunk in chunks:
        log.write(1, chunk)
    assert b"".join(data for _, data in seen) == b"".join(chunks) == log.last()


def test_environment() -> None:
    assert LogLimits.from_environment({}) == LogLimits()
    environment = {"BUILDKIT_STEP_LOG_MAX_SIZE": "-1", "BUILDKIT_STEP_LOG_MAX_SPEED": "x"}
    assert LogLimits.from_environment(environment) == LogLimits(size_bytes=-1)
