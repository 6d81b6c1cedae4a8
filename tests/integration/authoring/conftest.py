"""A clean environment with torana as a wheel; what torana requires is seen from there, too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_COPIED = ("cli", "core", "frontends", "gateway", "plugins", "src", "setup.cfg", "setup.py",
           "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """A virtual environment; commands find its programs first."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self, *what: str | Path, cwd: Path | None = None) -> None:
        """Install wheels or projects, without an index and what they require."""
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "--no-deps",
             "--no-index", "--no-build-isolation", "--disable-pip-version-check", *what],
            cwd=cwd, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def run(
        self, *command: str | Path, cwd: Path, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with a store of its own beside the environment."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TORANA_")}
        done = subprocess.run(
            command,
            cwd=cwd,
            env={
                **kept,
                "PATH": f"{self.folder / 'bin'}:{kept['PATH']}",
                "TORANA_ROOT": str(self.folder.parent / "store"),
                "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:asyncio -p no:xdist",
                "MYPY_CACHE_DIR": str(self.folder.parent / "mypy"),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done


def wheel(project: Path, folder: Path) -> Path:
    """Build the wheel of a copy of a project."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "-w", folder, "."],
        cwd=project, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def torana_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in _COPIED:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(place, copy / name)
    return wheel(copy, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, torana_wheel: Path) -> Environment:
    """The environment, shared by all tests of this folder; their distributions have other names."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    venv.create(folder)
    made = Environment(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file has no .pth files of its own: not the torana of this test.
    (site / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in ("pytest", "mypy"):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{made.python}" -m {name} "$@"\n')
        script.chmod(0o755)
    made.install(torana_wheel)
    return made
