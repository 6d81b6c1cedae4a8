"""Time `torana frontend list` with 50 frontends of others installed, beside `torana --help`.

The target is 150 ms. Nothing of the frontends may be imported: their modules end the process.
Prints least and median of wall-clock milliseconds of whole processes, in turns with an empty one:
what the machine is busy with, and what an editable install adds, is in all of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from peers import TORANA

COUNT = 50
ROUNDS = 15
MANIFEST = {
    "api": 1,
    "summary": "A language of the benchmark",
    "options": {"type": "object", "properties": {"level": {"type": "integer"}}},
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as text:
        site = Path(text)
        for number in range(COUNT):
            install(site, f"language{number}")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(site)}
        commands = {
            "torana frontend list": [TORANA, "frontend", "list"],
            "torana --help": [TORANA, "--help"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS + 2):
            for name, command in commands.items():
                times[name].append(measured_ms(command, environment))
        for name, found in times.items():
            least, median = min(found[2:]), statistics.median(found[2:])
            print(f"{name:24} {least:7.1f} {median:7.1f} ms")


def install(site: Path, name: str) -> None:
    """Leave what a wheel with one frontend leaves."""
    package = site / f"torana_{name}"
    package.mkdir()
    (package / "__init__.py").write_text("import os\nos._exit(99)\n")
    manifest = {**MANIFEST, "aliases": [f"example/{name}"], "files": [f"{name}.build"]}
    (package / "torana-frontend.json").write_text(json.dumps(manifest))
    info = site / f"torana_{name}-1.0.dist-info"
    info.mkdir()
    described = f"Metadata-Version: 2.1\nName: torana-{name}\nVersion: 1.0\n"
    (info / "METADATA").write_text(described)
    (info / "entry_points.txt").write_text(f"[torana.frontends]\n{name} = {package.name}:F\n")
    (info / "RECORD").write_text("")


def measured_ms(command: list[str], environment: Mapping[str, str]) -> float:
    """Run a command and give the time that it took."""
    started = time.perf_counter()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - started
    if "list" in command:
        assert ended.stdout.count("example/") == COUNT
    return elapsed * 1000


if __name__ == "__main__":
    main()
