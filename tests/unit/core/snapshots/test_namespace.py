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


@pytest.mark.parametrize(
    ("mounted", "is_hidden"),
    [("/proc", False), ("/proc/sys/fs/binfmt_misc", False), ("/proc/keys", True)],
)
def test_all_that_a_container_lacks(proc: Path, mounted: str, is_hidden: bool) -> None:
    """Whoever starts the container anew does it once."""
    (proc / "self" / "status").write_text("Name:\tx\nSeccomp:\t2\n")
    (proc / "self" / "mountinfo").write_text(f"76 105 0:49 / {mounted} ro - tmpfs tmpfs ro\n")
    assert ("--security-opt systempaths=unconfined" in namespace.advice()) is is_hidden


@pytest.mark.parametrize(
    ("status", "mode", "expected"),
    [
        ("CapBnd:\t00000000a80425fb\nNoNewPrivs:\t1\n", 0o4755, "without `no-new-privileges`"),
        ("CapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\n", 0o4755, "setcap cap_setuid=ep "),
        ("CapBnd:\t00000000a80425fb\nNoNewPrivs:\t0\n", 0o755, ""),
        ("CapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n", 0o4755, ""),
    ],
    ids=["no-new-privileges", "set-uid", "not-set-uid", "all-rights"],
)
def test_why_helpers_fail(
    proc: Path, monkeypatch: pytest.MonkeyPatch, status: str, mode: int, expected: str
) -> None:
    (proc / "self" / "status").write_text(status)
    helper = proc / "newuidmap"
    helper.touch()
    helper.chmod(mode)
    monkeypatch.setenv("PATH", str(proc))
    said = namespace.why_helper_failed("newuidmap")
    assert expected in said
    assert bool(said) is bool(expected)


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
