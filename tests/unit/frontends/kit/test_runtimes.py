"""What a build loads, and that a recorded conversation gives the same LLB again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from torana.frontends.kit.testing.gateway import FakeGateway
from torana.frontends.mockerfile import MockerfileFrontend
from torana.gateway.recording.frontend import RecordedFrontend
from torana.gateway.recording.recording import Recording
from torana.gateway.recording.replay import replay

TEXT = "image a\nfrom debian:12\ncopy a /a\nfile https://x.org/f /f\nrun ls\n"


async def test_replay_gives_the_same(tmp_path: Path) -> None:
    gateway = FakeGateway(images={"debian:12": {}}, contexts={"context": {"a": ""}})
    recorded = RecordedFrontend("mockerfile", MockerfileFrontend(), tmp_path / "recording")
    options = {"filename": "Mockerfile", "cmdline": "mockerfile"}
    built = await gateway.building_with(recorded, TEXT, options)
    built.assert_runs("ls")
    recording = Recording.load(tmp_path / "recording")
    outcome = await replay(recording, MockerfileFrontend())
    assert outcome.error is None
    assert outcome.is_same, outcome.differences
    assert outcome.calls > 3


def test_dockerfile_loads_no_other_frontend() -> None:
    script = (
        "import sys\n"
        "from torana.frontends.kit.testing.gateway import FakeGateway\n"
        "from torana.frontends.dockerfile import DockerfileFrontend\n"
        "FakeGateway().build(DockerfileFrontend(), 'FROM scratch\\nCOPY . /\\n')\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    others = ("torana.frontends.mockerfile", "torana.frontends.yaml", "lark", "yaml", "grpc")
    assert not [name for name in loaded if name.startswith(others)]
