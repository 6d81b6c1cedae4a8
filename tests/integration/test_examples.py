"""The examples, as the README runs them, and their results in other people's tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import Docker

ROOT = Path(__file__).resolve().parents[2]


def copied(name: str, folder: Path) -> Path:
    """Copy an example into a tree like the repository's; builds write into it."""
    target = folder / "examples" / name
    ignored = shutil.ignore_patterns("rootfs.tar", "busybox", "*.tar.*")
    shutil.copytree(ROOT / "examples" / name, target, ignore=ignored)
    return target


def torana(folder: Path) -> Path:
    """Make a `torana` command for the interpreter that runs the tests."""
    command = folder / "torana"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torana "$@"\n')
    command.chmod(0o755)
    return command


def run_example(example: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [example / "run", torana(folder)],
        env={**os.environ, "TORANA_ROOT": str(folder / "store"), "TORANA_NO_MEMO": "1"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip


@pytest.mark.needs("root", "busybox", "skopeo", "umoci")
def test_hello(tmp_path: Path) -> None:
    result = run_example(copied("hello", tmp_path), tmp_path)
    assert result.returncode == 0, result.stderr
    archive = tmp_path / "out" / "hello.tar"
    layout = tmp_path / "layout"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci-archive:{archive}", f"oci:{layout}:latest"], check=True
    )
    unpacked = tmp_path / "unpacked"
    subprocess.run(
        ["umoci", "--log=error", "unpack", "--image", f"{layout}:latest", unpacked], check=True
    )
    assert any((unpacked / "rootfs").rglob("busybox"))


@pytest.mark.needs("root", "busybox", "dockerd")
def test_docker_loads_and_runs_an_image(tmp_path: Path, docker: Docker) -> None:
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy("/bin/busybox", context / "busybox")
    text = 'FROM scratch\nCOPY busybox /bin/sh\nCMD ["/bin/sh", "-c", "echo it runs"]\n'
    (context / "Dockerfile").write_text(text)
    archive = tmp_path / "image.tar"
    subprocess.run(
        [torana(tmp_path), "build", "-q", "-t", "hello", "-o", f"type=docker,dest={archive}", "."],
        cwd=context, env={**os.environ, "TORANA_ROOT": str(tmp_path / "store")}, check=True,
    )  # fmt: skip
    docker.run("load", "-i", archive)
    assert docker.run("run", "--rm", "--network", "none", "hello") == "it runs\n"


@pytest.mark.needs("root", "mmdebstrap", "crun")
def test_real_program_is_built_and_tested(tmp_path: Path) -> None:
    example = copied("real", tmp_path)
    result = run_example(example, tmp_path)
    assert result.returncode == 0, result.stderr[-5000:]
    again = run_example(example, tmp_path)
    assert again.returncode == 0, again.stderr[-5000:]
    ran = [line for line in again.stderr.splitlines() if " DONE " in line]
    assert "CACHED" in again.stderr
    assert not any("make test" in line for line in ran)
