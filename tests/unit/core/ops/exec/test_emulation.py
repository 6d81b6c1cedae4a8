from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.oci.platform import parse_platform
from torana.core.ops.exec.emulation import find_emulator


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with emulators of two platforms."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("aarch64", "riscv64"):
        (folder / f"buildkit-qemu-{name}").write_text("#!/bin/sh\n")
        (folder / f"buildkit-qemu-{name}").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.parametrize(
    ("platform", "host", "name"),
    [
        ("linux/arm64", "linux/amd64", "aarch64"),
        ("linux/aarch64", "linux/amd64", "aarch64"),
        ("linux/riscv64", "linux/amd64", "riscv64"),
        ("linux/arm64", "linux/arm64", ""),
        ("linux/amd64", "linux/amd64", ""),
        ("linux/386", "linux/amd64", ""),
        ("linux/s390x", "linux/amd64", ""),  # no emulator: it fails in the kernel's words
    ],
)
def test_emulators(programs: Path, tmp_path: Path, platform: str, host: str, name: str) -> None:
    found = find_emulator(
        parse_platform(platform), host=parse_platform(host), handlers=tmp_path / "none"
    )
    assert found == (programs / f"buildkit-qemu-{name}" if name else None)


@pytest.mark.parametrize("state", ["enabled", "disabled"])
def test_handlers_of_the_kernel(programs: Path, tmp_path: Path, state: str) -> None:
    (tmp_path / "qemu-aarch64").write_text(f"{state}\ninterpreter /usr/bin/qemu\n")
    host = parse_platform("linux/amd64")
    found = find_emulator(parse_platform("linux/arm64"), host=host, handlers=tmp_path)
    assert (found is None) is (state == "enabled")
