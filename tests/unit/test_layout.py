"""The parts of the layout that must stay in step, and what an import may cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("cli", "core", "gateway", "frontends", "plugins")
HEAVY = {"asyncio", "click", "dataclasses", "grpc", "importlib.metadata", "lark", "rich", "sqlite3"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_view_points_at_the_folder(folder: str) -> None:
    view = ROOT / "src" / "torana" / folder
    if not view.exists():
        pytest.skip("an sdist carries no links")
    assert view.is_symlink()
    assert view.resolve() == ROOT / folder


def test_every_source_folder_is_a_package() -> None:
    folders = (d for f in FOLDERS for d in (ROOT / f).rglob("*") if d.is_dir())
    assert [d for d in folders if any(d.glob("*.py")) and not (d / "__init__.py").exists()] == []


def loaded_by(statement: str) -> set[str]:
    script = (
        f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_package_and_front_door_import_next_to_nothing() -> None:
    assert not loaded_by("import torana") & HEAVY
    assert not loaded_by("from torana.cli import front, memo") & HEAVY


def test_embedded_engine_needs_no_grpc() -> None:
    loaded = loaded_by(
        "import torana.gateway.engines.embedded, torana.frontends.dockerfile, "
        "torana.plugins.exporters.archive, torana.plugins.runtimes.crun"
    )
    assert not {name for name in loaded if name.split(".")[0] in ("grpc", "google", "lark")}


def test_listing_frontends_needs_no_more_than_it_says() -> None:
    loaded = loaded_by(
        "from torana.__main__ import main; sys.argv[1:] = ['frontend', 'list']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code"
    )
    assert "torana.plugins.installed" in loaded
    heavy = {"asyncio", "email", "importlib.metadata", "importlib.util", "pathlib", "traceback"}
    assert not loaded & (HEAVY - {"click", "dataclasses"} | heavy)
    assert not {name for name in loaded if name.startswith("torana.frontends")}
