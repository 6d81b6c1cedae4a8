from __future__ import annotations

import gc
import sys

import pytest

from torana.cli import daemon


@pytest.mark.parametrize(("flag", "code"), [("--version", 0), ("--no-such-flag", 2)])
def test_the_end_is_short(monkeypatch: pytest.MonkeyPatch, flag: str, code: int) -> None:
    """The interpreter's last search for cycles is most of the end, and looks at nothing frozen."""
    frozen: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setattr(sys, "argv", ["toranad", flag])
    with pytest.raises(SystemExit) as caught:
        daemon.main()
    assert (caught.value.code, frozen) == (code, [True])
