"""What is said where there are no user namespaces, by what the machine would show."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.snapshots import namespace


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc without any restriction."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "status").write_text("Name:\tx\nSeccomp:\t0\n")
    monkeypatch.setattr(namespace, "PROC", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_settings(proc: Path, setting: str, value: str, advice: str) -> None:
    file = proc / "sys" / setting
    file.parent.mkdir(parents=True)
    file.write_text(f"{value}\n")
    assert advice in namespace.advice()
    file.write_text("7\n")
    assert "sysctl" not in namespace.advice()


def test_seccomp(proc: Path) -> None:
    (proc / "self" / "status").write_text("Name:\tx\nSeccomp:\t2\n")
    assert "--security-opt seccomp=unconfined" in namespace.advice()


def test_nothing_known(proc: Path) -> None:
    assert namespace.advice() == "run as root, or where user namespaces are allowed"


def test_no_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(1000, 65536)]
    assert "/etc/subuid has no line" in namespace.why_no_ranges([], rows)
    assert "/etc/subgid has no line" in namespace.why_no_ranges(rows, [])
    monkeypatch.setenv("PATH", "/nowhere")
    said = namespace.why_no_ranges(rows, rows)
    assert said == "`newuidmap` is not on PATH (install `uidmap`)"


def test_ranges(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("4242:1000:10\n# comment\n4242:x:1\nother:5:5\n4242:5000:20\n")
    assert namespace.ranges(str(file), 4242) == [(1000, 10), (5000, 20)]
    assert namespace.ranges(str(tmp_path / "absent"), 4242) == []
