"""Our Dockerfile frontend packed as an image, run by stock BuildKit for a `# syntax=` line."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = ("buildkitd", "buildctl", "docker-registry", "skopeo")
pytestmark = [
    pytest.mark.needs("root"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason=f"needs stock programs: {', '.join(TOOLS)}"
    ),
]
SOURCE = Path(__file__).resolve().parents[3]
LEFT_OUT = shutil.ignore_patterns(
    "test", "__pycache__", "idlelib", "tkinter", "config-*", "site-packages", "ensurepip"
)


def _python_tree(root: Path) -> None:
    """Put this Python, the packages that a frontend needs, and ourselves into a tree."""
    inside = root / sys.base_prefix[1:]
    library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    program = Path(os.path.realpath(sys.executable))
    (inside / "bin").mkdir(parents=True)
    shutil.copy(program, inside / "bin/python")
    shutil.copytree(Path(sys.base_prefix) / library, inside / library, ignore=LEFT_OUT)
    for path in (Path(sys.base_prefix) / "lib").glob("libpython*.so*"):
        shutil.copy(path, inside / "lib")
    site = root / "site"
    packages = Path(sys.prefix) / library / "site-packages"
    for name in ("grpc", "google", "pluggy", "msgpack"):
        shutil.copytree(packages / name, site / name)
    shutil.copy(packages / "typing_extensions.py", site)
    shutil.copytree(SOURCE / "src/torana", site / "torana", ignore=LEFT_OUT)
    for path in [inside / "bin/python", *root.rglob("*.so*")]:
        told = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        for needed in re.findall(r"(/\S+) \(", told):
            if not needed.startswith((sys.base_prefix, str(root))):
                (root / needed[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(needed, root / needed[1:])


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of the frontend image, in a registry of our own."""
    folder = tmp_path_factory.mktemp("frontend")
    _python_tree(folder / "root")
    (folder / "Dockerfile").write_text(
        "FROM scratch\nCOPY root /\nENV PYTHONPATH=/site\n"
        "LABEL moby.buildkit.frontend.network.none=true\n"
        f'ENTRYPOINT ["{sys.base_prefix}/bin/python", "-m", '
        '"torana.gateway.runners.serving", "dockerfile"]\n'
    )
    archive = folder / "image.tar"
    environment = {**os.environ, "TORANA_ROOT": str(folder / "store")}
    command = [sys.executable, "-m", "torana", "build", "-o", f"type=oci,dest={archive}"]
    subprocess.run([*command, "-t", "f", str(folder)], check=True, env=environment)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    with open(folder / "registry.log", "wb") as log:
        registry = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    try:
        _wait_for(port)
        name = f"127.0.0.1:{port}/torana/dockerfile:1"
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci-archive:{archive}"]
        subprocess.run([*copy, f"docker://{name}"], check=True)
        yield name
    finally:
        registry.terminate()
        registry.wait(20)


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the registry does not listen")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bk")
    command = ["buildkitd", "--root", f"{folder}/root", "--addr", f"unix://{folder}/s"]
    command += ["--containerd-worker=false", "--oci-worker-net=host"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(200):
            if b"running server" in (folder / "log").read_bytes():
                break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"unix://{folder}/s"
    finally:
        process.terminate()
        process.wait(20)


def _build(address: str, context: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["buildctl", "--addr", address, "build", "--progress", "plain"]
    command += ["--frontend", "dockerfile.v0", "--local", f"context={context}"]
    command += ["--local", f"dockerfile={context}", *more]
    return subprocess.run(command, capture_output=True, text=True)


def test_build(address: str, image: str, tmp_path: Path) -> None:
    text = f"# syntax={image}\nFROM scratch\nARG NAME=x\nCOPY hello /$NAME\n"
    (tmp_path / "Dockerfile").write_text(text)
    (tmp_path / "hello").write_text("hello")
    out = tmp_path / "out"
    output = ("--output", f"type=local,dest={out}", "--opt", "build-arg:NAME=there")
    done = _build(address, tmp_path, *output)
    assert done.returncode == 0, done.stderr
    assert (out / "there").read_text() == "hello"


def test_error_has_its_place(address: str, image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"# syntax={image}\nFROM scratch\nCOPPY a /b\n")
    done = _build(address, tmp_path)
    assert done.returncode == 1
    assert "   3 | >>> COPPY a /b\n" in done.stderr
    assert "unknown instruction: COPPY (did you mean COPY?)" in done.stderr
