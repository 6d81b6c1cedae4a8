"""Frontends from a package index on loopback: locked, installed, saved, and built with."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.integration.cli.test_build import Project
from tests.sites import Site

pytestmark = pytest.mark.needs("root")

TOP = "import greetings, sys"
# Says which environment it runs in, and what that has.
TEXT = "greetings.TEXT + ' ' + sys.prefix.rpartition('/')[2][:10]"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


class Index:
    """A simple index (PEP 503) in a folder, on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = partial(_Quiet, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def add(self, site: Site, distribution: str, version: str, requires: str = "") -> Path:
        """Make a wheel of what `site` has, and offer it; the site is emptied."""
        info = site.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        (info / "WHEEL").write_text(
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        metadata = (info / "METADATA").read_text()
        if requires:
            needed = f"Version: {version}\nRequires-Dist: {requires}\n"
            (info / "METADATA").write_text(metadata.replace(f"Version: {version}\n", needed))
        project = self.folder / distribution
        project.mkdir(exist_ok=True)
        wheel = project / f"{distribution.replace('-', '_')}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file in sorted(site.path.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(site.path))
                    file.unlink()
        self._list(project)
        return wheel

    def _list(self, project: Path) -> None:
        links = (
            f'<a href="{w.name}#sha256={hashlib.sha256(w.read_bytes()).hexdigest()}">{w.name}</a>'
            for w in sorted(project.glob("*.whl"))
        )
        (project / "index.html").write_text(f"<html><body>{''.join(links)}</body></html>")

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def index(tmp_path: Path, site: Site) -> Iterator[Index]:
    """An index with `torana-lua` 1.0, which needs `greetings`, and Torana."""
    folder = tmp_path / "index"
    folder.mkdir()
    made = Index(folder)
    site.install("greetings", "2.0", files={"greetings.py": "TEXT = 'hello from'\n"})
    made.add(site, "greetings", "2.0")
    site.frontend("lua", version="1.0", top=TOP, body="pass")
    file = site.path / "torana_lua/frontend.py"
    file.write_text(file.read_text().replace('client.options.get("build-arg:TEXT", "")', TEXT))
    made.add(site, "torana-lua", "1.0", requires="greetings>=1\nRequires-Dist: torana")
    yield made
    made.close()


class Locking:
    """A project whose build file wants a frontend of the index."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.project = Project(folder)
        self.project.write("Dockerfile", "# syntax=pypi:torana-lua==1.0\n")
        self.index = index
        self.lock_file = self.project.context / "torana.lock"

    def run(self, *arguments: str, **more: str) -> CompletedProcess[str]:
        settings = {"PIP_INDEX_URL": self.index.url, "PIP_CONFIG_FILE": "/dev/null", **more}
        return self.project.run(*arguments, **settings)

    def build(self, *arguments: str) -> CompletedProcess[str]:
        out = str(self.project.folder / "out")
        return self.run("build", ".", "-o", out, *arguments)

    def made(self) -> str:
        return (self.project.folder / "out" / "lua").read_text()


@pytest.fixture
def locking(tmp_path: Path, index: Index) -> Locking:
    return Locking(tmp_path, index)


def test_from_lock_to_build(locking: Locking, tmp_path: Path) -> None:
    locked = locking.run("frontend", "lock", "pypi:torana-lua==1.0")
    assert locked.returncode == 0, locked.stderr
    (entry,) = json.loads(locking.lock_file.read_text())["frontends"]
    assert [wheel["name"] for wheel in entry["wheels"]] == ["greetings", "torana-lua"]
    wheel = next((locking.index.folder / "torana-lua").glob("*.whl"))
    assert entry["wheels"][1]["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()

    uninstalled = locking.build("--allow-frontend=pypi")
    assert "`torana frontend install` does it" in uninstalled.stderr
    wheelhouse = str(tmp_path / "wheelhouse")
    saved = locking.run("frontend", "export-wheelhouse", wheelhouse)
    assert saved.returncode == 0, saved.stderr

    locking.index.url = "http://127.0.0.1:9/"  # nobody is there any more
    installed = locking.run("frontend", "install", "--wheelhouse", wheelhouse)
    assert installed.returncode == 0, installed.stderr
    built = locking.build("--allow-frontend=pypi")
    assert built.returncode == 0, built.stderr
    assert locking.made() == "hello from torana-lua"
    assert locking.run("frontend", "install").returncode == 0  # it is there already


def test_other_bytes_are_refused(locking: Locking, site: Site) -> None:
    assert locking.run("frontend", "lock", "torana-lua==1.0").returncode == 0
    site.install("greetings", "2.0", files={"greetings.py": "TEXT = 'evil'\n"})
    locking.index.add(site, "greetings", "2.0")
    result = locking.run("frontend", "install")
    assert result.returncode == 1
    assert "cannot install `pypi:torana-lua==1.0`" in result.stderr
    assert "HASHES" in result.stderr.upper()
    assert "Traceback" not in result.stderr
    assert list((locking.project.store / "frontends").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("lock", "pypi:nothing-there==1"), 1, "cannot lock `nothing-there==1`: "),
        (("lock", "torana-lua"), 2, "no pinned distribution: `torana-lua`"),
        (("lock",), 1, "has no frontends"),
        (("install",), 1, "has no frontends"),
    ],
)
def test_mistakes(locking: Locking, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = locking.run("frontend", *arguments)
    assert (result.returncode, "Traceback" in result.stderr) == (code, False)
    assert message in result.stderr
    assert not locking.lock_file.exists()


class Bare:
    """A Python that has Torana and no pip, as uv makes them."""

    def __init__(self, folder: Path, locking: Locking, tools: str) -> None:
        from torana.gateway.publishing import locking as under_test

        self._python = folder / "bare/bin/python"
        under_test._create(folder / "bare")
        self._context = locking.project.context
        self._environment = {
            "PATH": tools,
            "HOME": str(folder),
            "TORANA_ROOT": str(locking.project.store),
            "XDG_CONFIG_DIRS": str(folder / "etc"),
        }

    def run(self, *arguments: str, **settings: str) -> CompletedProcess[str]:
        return subprocess.run(
            [self._python, "-m", "torana", "frontend", *arguments],
            cwd=self._context,
            env={**self._environment, **settings},
            capture_output=True,
            text=True,
        )


def test_without_pip_the_one_of_python_is_borrowed(locking: Locking, tmp_path: Path) -> None:
    bare = Bare(tmp_path, locking, os.defpath)
    for command in (("lock", "pypi:torana-lua==1.0"), ("install",)):
        result = bare.run(*command, UV_DEFAULT_INDEX=locking.index.url)
        assert result.returncode == 0, result.stderr
    built = locking.build("--allow-frontend=pypi")
    assert built.returncode == 0, built.stderr
    assert locking.made() == "hello from torana-lua"


@pytest.mark.needs("uv")
@pytest.mark.parametrize("settings", ["uv", "variable", "file"])
def test_uv_installs_from_the_indexes_of_either(
    locking: Locking, tmp_path: Path, settings: str
) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    locked = locking.run("frontend", "lock", "pypi:torana-lua==1.0")
    assert locked.returncode == 0, locked.stderr
    bare = Bare(tmp_path, locking, f"{Path(uv).parent}:{os.defpath}")
    nowhere = bare.run("install", UV_DEFAULT_INDEX="http://127.0.0.1:9/")
    assert nowhere.returncode == 1
    assert "cannot install `pypi:torana-lua==1.0`: " in nowhere.stderr
    url = locking.index.url
    (tmp_path / ".config/pip").mkdir(parents=True)
    if settings == "file":
        (tmp_path / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {url}\n")
    given = {"uv": {"UV_INDEX_URL": url}, "variable": {"PIP_INDEX_URL": url}}.get(settings, {})
    result = bare.run("install", **given)
    assert result.returncode == 0, result.stderr
    built = locking.build("--allow-frontend=pypi")
    assert built.returncode == 0, built.stderr
    assert locking.made() == "hello from torana-lua"


@pytest.mark.needs("uv")
def test_uv_refuses_other_bytes(locking: Locking, tmp_path: Path, site: Site) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    assert locking.run("frontend", "lock", "torana-lua==1.0").returncode == 0
    site.install("greetings", "2.0", files={"greetings.py": "TEXT = 'evil'\n"})
    locking.index.add(site, "greetings", "2.0")
    bare = Bare(tmp_path, locking, f"{Path(uv).parent}:{os.defpath}")
    result = bare.run("install", UV_DEFAULT_INDEX=locking.index.url)
    assert result.returncode == 1
    assert "cannot install `pypi:torana-lua==1.0`: " in result.stderr
    assert "Hash mismatch" in result.stderr
    assert list((locking.project.store / "frontends").iterdir()) == []


def test_a_damaged_lock_file_is_told(locking: Locking) -> None:
    locking.lock_file.write_text('{"frontends": [{"distribution": "a", "version": "1"}]}')
    result = locking.run("frontend", "install")
    assert result.returncode == 1
    assert "torana.lock: malformed: there is no 'wheels'\nhint: " in result.stderr
