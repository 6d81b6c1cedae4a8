"""What is told of an installer that fails."""

from __future__ import annotations

import pytest

from torana.gateway.publishing.locking import reason

ROLL_BACK = "ERROR: Can't roll back msgpack; was not uninstalled\n"
NO_SPACE = "Could not install packages due to an OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"{ROLL_BACK}ERROR: {NO_SPACE}\n\n", NO_SPACE),
        (ROLL_BACK, "Can't roll back msgpack; was not uninstalled"),
        ("WARNING: x\nERROR: No matching distribution\nERROR: y\n", "No matching distribution"),
        ("  error: Failed to fetch\n  cause: no route\n", "Failed to fetch: no route"),
        ("something\nelse\n", "something"),
        ("\n", "it gave no reason"),
    ],
)
def test_the_line_that_says_why(said: str, told: str) -> None:
    assert reason(said) == told
