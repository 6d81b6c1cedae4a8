"""The tests of `ops` and of overlays by root of namespaces, as `torana build` of ordinary users is.

What cannot work there is an expected failure of the test itself, with its reason: `ops/who.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.rootless.conftest import make_builder

pytestmark = pytest.mark.needs(
    "root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"
)

INSIDE = Path(__file__).with_name("inside.py")
OPS = Path(__file__).resolve().parents[1] / "ops"
ALONE = ("test_steps.py", "test_runtime_suite.py")
REST = (
    *sorted(path.name for path in OPS.glob("test_*.py") if path.name not in ALONE),
    "../core/test_overlay.py",
)


@pytest.mark.parametrize("files", [*((name,) for name in ALONE), REST], ids=[*ALONE, "rest"])
@pytest.mark.parametrize("who", ["ranges", "single", "container"])
def test_ops(
    request: pytest.FixtureRequest, folder: Path, who: str, files: tuple[str, ...]
) -> None:
    builder = make_builder(request, who, folder)
    folder.chmod(0o755)  # a Python for other users is in it
    temporary = folder / "temporary"
    temporary.mkdir()
    os.chown(temporary, folder.stat().st_uid, -1)
    options = ["-q", "-rs", "-p", "no:cacheprovider", f"--basetemp={temporary / 'tests'}"]
    done = subprocess.run(
        [*builder.prefix, sys.executable, "-B", INSIDE, folder, *options, *files],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HOME": str(folder),
            "TMPDIR": str(temporary),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=OPS,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout
