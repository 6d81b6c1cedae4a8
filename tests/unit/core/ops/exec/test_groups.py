"""Which groups are taken for those of a dead process."""

from __future__ import annotations

from pathlib import Path

from torana.core.ops.exec.groups import remove_all


def test_only_those_of_the_process(tmp_path: Path) -> None:
    for name in (
        "pids/buildkit/0123abcdffff",
        "cpu/buildkit/0123abcdffff/below",
        "cpu/buildkit/fffff0123abcd",
        "cpu/buildkit/99999999",
        "systemd/a.slice/a-0123abcdffff.scope",
        "systemd/a.slice/other.scope",
    ):
        (tmp_path / name).mkdir(parents=True)
    remove_all("0123abcd", tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {
        "pids", "pids/buildkit", "cpu", "cpu/buildkit", "cpu/buildkit/fffff0123abcd",
        "cpu/buildkit/99999999", "systemd", "systemd/a.slice", "systemd/a.slice/other.scope",
    }  # fmt: skip


def test_names_that_are_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "buildkit").mkdir()
    for token in ("", "b", "buildkit", "0123abcd/", "../0123a"):
        remove_all(token, tmp_path)
    assert (tmp_path / "buildkit").exists()
