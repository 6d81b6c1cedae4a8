"""The YAML frontend, case by case; `--update-golden` writes what is expected anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.golden.yaml.golden import CASES, Case, all_cases

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in all_cases()])
async def test_golden(path: Path, request: pytest.FixtureRequest) -> None:
    case = Case.load(path)
    found = await case.run()
    if request.config.getoption("--update-golden", default=False):
        case.expected.write_text(found)
    assert found == case.expected.read_text()


def test_there_are_cases_and_no_orphans() -> None:
    names = {path.stem for path in all_cases()}
    assert len(names) >= 60
    assert {path.stem for path in CASES.glob("*.txt")} == names


_DIGESTS = """
import asyncio, hashlib, sys
from tests.golden.yaml.golden import Case, all_cases

async def main():
    for path in all_cases():
        case = Case.load(path)
        client = case.client()
        from torana.core.errors import ToranaError
        from torana.frontends.yaml import YamlFrontend
        try:
            await YamlFrontend().build(client)
        except ToranaError:
            continue
        for each in client.solves:
            print(case.name, hashlib.sha256(each.definition.encode()).hexdigest())

asyncio.run(main())
"""


def test_every_process_makes_the_same_bytes() -> None:
    def digests(seed: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True, timeout=300,
        ).stdout  # fmt: skip

    first = digests("1")
    assert len(first.splitlines()) > 60
    assert digests("4242") == first
