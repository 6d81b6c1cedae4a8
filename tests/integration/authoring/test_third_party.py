"""A frontend of somebody else, as a wheel beside torana's, in every runtime."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.integration.authoring.conftest import ROOT, Environment, wheel
from tests.integration.conftest import Docker
from tests.integration.registry.servers import RealRegistry

# Sessions differ, and so do the digests of what has one in it.
_SESSION = re.compile(r"local\.session\w*=\S+|digest sha256:\w+")
EXAMPLE = ROOT / "examples" / "third-party"


@pytest.fixture(scope="module")
def project(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's own folder to build in, its frontend being installed."""
    folder = tmp_path_factory.mktemp("taskfile")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(EXAMPLE, source, ignore=ignored)
    environment.install(wheel(source, folder / "wheels"))
    shutil.copy("/bin/busybox", source / "example" / "busybox")
    return source / "example"


@pytest.mark.needs("root", "busybox")
def test_own_tests_pass(environment: Environment, project: Path) -> None:
    done = environment.run("pytest", "-q", "--rootdir", ".", "tests", cwd=project.parent)
    assert " passed" in done.stdout


@pytest.mark.needs("root", "busybox")
def test_builds_in_process_and_confined(environment: Environment, project: Path) -> None:
    for number, flags in enumerate(((), ("--trust-plugin", "taskfile"))):
        out = project.parent / f"out-{number}"
        environment.run(
            "torana", "build", *flags, "-f", "Taskfile", "-o", f"type=local,dest={out}", ".",
            cwd=project,
        )  # fmt: skip
        assert (out / "srv/hello-1.2.txt").read_text() == "hello\n"
        assert (out / "prepared").read_text() == "prepared\n"
    listed = environment.run("torana", "frontend", "list", "--json", cwd=project).stdout
    assert any(each["name"] == "taskfile" for each in json.loads(listed)["frontends"])


@pytest.mark.needs("root", "busybox")
def test_same_bytes_in_each_runtime(environment: Environment, project: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from torana.frontends.kit.testing.gateway import FakeGateway\n"
        "from torana.frontends.kit.testing.runtimes import Runtimes\n"
        "gateway = FakeGateway(contexts={'context': {'busybox': b'', 'hello.txt': b'hello'}})\n"
        "text = Path('Taskfile').read_text()\n"
        "built = Runtimes.from_environment().build(gateway, 'taskfile', text)\n"
        "sys.stdout.write(built.text())\n"
    )
    text = environment.run(environment.python, "-c", script, cwd=project).stdout
    assert "copy /hello.txt /srv/hello-1.2.txt" in text


@pytest.mark.needs("root", "busybox")
def test_a_recorded_build_can_be_replayed(environment: Environment, project: Path) -> None:
    recording = project.parent / "recording"
    environment.run(
        "torana", "build", "--trust-plugin", "taskfile", "--record", recording, "-f", "Taskfile",
        "-o", f"type=local,dest={project.parent / 'recorded'}", ".", cwd=project,
    )  # fmt: skip
    # Nothing is left of what it read: the answers are in the recording.
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    done = environment.run("torana", "replay", recording, cwd=elsewhere)
    assert "calls of `torana-taskfile:taskfile`: as recorded" in done.stdout
    # Another language does not say the same, so the answers above were its own.
    done = environment.run(
        "torana", "replay", "--frontend", "mockerfile", recording, cwd=elsewhere, check=False
    )
    assert done.returncode == 1
    confined = environment.run(
        "torana", "build", "--record", recording, "-f", "Taskfile", ".", cwd=project, check=False
    )
    assert "only conversations of frontends in this process are recorded" in confined.stderr
    assert "--trust-plugin" in confined.stderr


@pytest.mark.needs("root", "busybox", "dockerd")
def test_on_stock_buildkit_and_as_an_image(
    environment: Environment, project: Path, docker: Docker
) -> None:
    script = (
        "from pathlib import Path\n"
        "from torana.frontends.kit.testing.gateway import FakeGateway\n"
        "from torana.frontends.kit.testing.runtimes import Runtimes\n"
        "gateway = FakeGateway(contexts={'context': {'busybox': b'', 'hello.txt': b'hello'}})\n"
        f"runtimes = Runtimes({docker.address!r})\n"
        "runtimes.build(gateway, 'taskfile', Path('Taskfile').read_text())\n"
    )
    environment.run(environment.python, "-c", script, cwd=project)
    environment.run(
        "torana", "frontend", "publish-image", "taskfile",
        "-t", "frontends.invalid/taskfile:1", "--addr", docker.address, cwd=project,
    )  # fmt: skip
    text = (project / "Taskfile").read_text()
    named = text.replace("syntax=taskfile", "syntax=frontends.invalid/taskfile:1")
    (project / "Imagefile").write_text(named)
    environment.run(
        "env", "DOCKER_BUILDKIT=1", "/usr/bin/docker", "-H", f"unix://{docker.socket}", "build",
        "--progress=plain", "--network=none", "-f", "Imagefile", "-t", "by-taskfile", ".",
        cwd=project,
    )  # fmt: skip
    shown = docker.run(
        "run", "--rm", "--network=none", "by-taskfile", "/bin/sh", "-c",
        "read -r text < /srv/hello-1.2.txt; echo $text",
    )  # fmt: skip
    assert shown == "hello\n"


@pytest.mark.needs("root", "busybox", "crun", "docker-registry")
def test_the_same_llb_as_an_image(environment: Environment, project: Path, tmp_path: Path) -> None:
    registry = RealRegistry(tmp_path)
    registry.start()
    try:
        name = f"{registry.host}/taskfile:1"
        environment.run(
            "torana", "frontend", "publish-image", "taskfile", "-t", name, "--push", cwd=project
        )
        shown = [
            environment.run(
                "torana", "llb", "-f", "Taskfile", "--syntax", syntax, *flags, ".", cwd=project
            ).stdout
            for syntax, flags in (
                ("taskfile", ()),
                ("taskfile", ("--trust-plugin", "taskfile")),
                (name, ("--strict-syntax",)),
            )
        ]
    finally:
        registry.stop()
    one, two, three = (_SESSION.sub("", text) for text in shown)
    assert "/srv/hello-1.2.txt" in one
    assert one == two == three
