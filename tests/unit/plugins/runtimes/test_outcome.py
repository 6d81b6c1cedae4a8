from __future__ import annotations

from pathlib import Path

import pytest

from torana.plugins.runtimes.outcome import failure, of_program


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ('{"level":"error","msg":"one"}\n{"level":"error","msg":"two"}\n', "two"),
        ('{"level":"error","msg":"one"}\n{"level":"warning","msg":"two"}\n', "one"),
        ("open `/x`: No such file\n", "open `/x`: No such file"),
        ("[1]\n", ""),
    ],
)
def test_last_error(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "log").write_text(text)
    assert failure(tmp_path / "log") == expected


def test_no_log(tmp_path: Path) -> None:
    assert failure(tmp_path / "log") == ""


@pytest.mark.parametrize(
    ("said", "program", "expected"),
    [
        (
            "executable file `x` not found in $PATH: No such file or directory",
            "x",
            'exec: "x": executable file not found in $PATH',
        ),
        (
            "executable file `/x` not found: No such file or directory",
            "/x",
            'exec: "/x": no such file or directory',
        ),
        ("open executable: Permission denied", "/x", 'exec: "/x": permission denied'),
        ("mount `proc` to `proc`: Not permitted", "/x", "mount `proc` to `proc`: Not permitted"),
    ],
)
def test_words_of_crun(said: str, program: str, expected: str) -> None:
    assert of_program(said, program) == expected
