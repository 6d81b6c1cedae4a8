from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.ops.file.modes import InvalidModeError, parse_mode


@pytest.mark.parametrize(
    ("text", "mode", "is_dir", "expected"),
    [
        ("644", 0o777, False, 0o644),
        ("0644", 0o777, True, 0o644),
        ("4755", 0o600, False, 0o4755),
        ("u=rwX,go=rX", 0o700, True, 0o755),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("+x", 0o644, False, 0o755),
        ("a-w", 0o666, False, 0o444),
        ("go-rwx", 0o777, False, 0o700),
        ("g=u", 0o740, False, 0o770),
        ("o=g", 0o750, False, 0o755),
        ("u+s", 0o755, False, 0o4755),
        ("g+s", 0o755, True, 0o2755),
        ("o+s", 0o755, False, 0o755),
        ("+t", 0o777, True, 0o1777),
        ("o+t", 0o777, True, 0o777),
        ("u=", 0o4777, False, 0o077),
        ("=", 0o7777, False, 0o1000),
        ("u=r+w-r", 0o777, False, 0o277),
        ("a=X", 0o644, False, 0),
        ("a=X", 0o644, True, 0o111),
        ("a-x,a+X", 0o755, False, 0o755),
        ("a-x,a+X", 0o644, False, 0o644),
    ],
)
def test_modes(text: str, mode: int, is_dir: bool, expected: int) -> None:
    assert parse_mode(text).apply(mode, is_dir=is_dir) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "u", "8", "99", "u=z", "u+x,", ",", "u=7", "17777", "u x"]
)
def test_no_mode(text: str) -> None:
    with pytest.raises(InvalidModeError, match="invalid syntax"):
        parse_mode(text)


CLAUSE = st.builds(
    "{}{}{}".format,
    st.text("ugoa", min_size=1, max_size=3),
    st.sampled_from("+-="),
    st.text("rwx", max_size=3) | st.text("rwX", max_size=3) | st.sampled_from("ugo"),
)


@given(st.lists(CLAUSE, min_size=1, max_size=4).map(",".join), st.integers(0, 0o777), st.booleans())
def test_a_mode_twice_is_a_mode_once_for_constants(text: str, mode: int, is_dir: bool) -> None:
    result = parse_mode(text).apply(mode, is_dir=is_dir)
    assert 0 <= result <= 0o777
    who = set(
        "".join(
            clause[: next(i for i, c in enumerate(clause) if c in "+-=")]
            for clause in text.split(",")
        )
    )
    for letter, shift in (("u", 6), ("g", 3), ("o", 0)):
        if letter not in who and "a" not in who:
            assert result >> shift & 7 == mode >> shift & 7  # classes not named stay


def test_the_same_as_chmod(tmp_path: Path) -> None:
    """GNU chmod agrees on permission bits where a class is named."""
    texts = ["u=rwX,go=rX", "a+X", "ug=rw,o=", "go=u,go-w", "u-x,a+r", "g=o,o=u", "u=rx+w,g-rwx+x"]
    for text in texts:
        for mode in (0o000, 0o644, 0o751, 0o700, 0o111):
            file = tmp_path / "f"
            file.touch()
            file.chmod(mode)
            subprocess.run(["chmod", text, file], check=True)
            expected = file.stat().st_mode & 0o7777
            assert parse_mode(text).apply(mode, is_dir=False) == expected, (text, oct(mode))
