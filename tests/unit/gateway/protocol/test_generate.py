"""The committed modules are what the compiler makes of the `.proto` files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from torana.gateway.protocol import generate

FOLDER = Path(generate.__file__).parent
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def modules(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for pattern in PATTERNS for path in folder.glob(pattern)}


def test_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    tools = str(Path(sys.executable).parent)  # protoc looks for the plugin of mypy-protobuf
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torana.gateway.protocol.generate", tmp_path],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        check=True,
    )
    made = modules(tmp_path / generate.FOLDER)
    committed = modules(FOLDER)
    assert made.keys() == committed.keys()
    assert [name for name in made if made[name] != committed[name]] == []
