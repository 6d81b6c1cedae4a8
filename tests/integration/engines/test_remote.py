"""Our frontends on stock BuildKit: the one inside of a real Docker daemon."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from tests.integration.conftest import Docker
from tests.sites import Site

from torana.core.llb import ops as o
from torana.core.llb.definition import Definition
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.engines.remote.engine import RemoteEngine

pytestmark = pytest.mark.needs("root", "busybox", "dockerd")

DOCKERFILE = """\
FROM scratch AS base
COPY busybox /bin/sh
FROM base
ARG WHO=you
COPY --chmod=640 src /src
RUN --network=none echo "for $WHO" > /made
ENV A=b
CMD ["/bin/sh", "-c", "cat /made /src/file"]
"""


class Project:
    def __init__(self, folder: Path, docker: Docker) -> None:
        self.docker = docker
        self.folder = folder
        self.context = folder / "context"
        (self.context / "src").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.context / "busybox")
        (self.context / "src/file").write_text("a file\n")
        self.dockerfile(DOCKERFILE)

    def dockerfile(self, text: str) -> None:
        (self.context / "Dockerfile").write_text(text)

    def start(self, *arguments: str, address: str = "") -> subprocess.Popen[str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return subprocess.Popen(
            [sys.executable, "-m", "torana", "build", ".", "--progress", "plain", *arguments],
            cwd=self.context,
            env={
                **kept,
                "TORANA_ROOT": str(self.folder / "store"),
                "BUILDKIT_HOST": address or self.docker.address,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def build(self, *arguments: str, address: str = "") -> tuple[int, str]:
        process = self.start(*arguments, address=address)
        _, errors = process.communicate(timeout=120)
        return process.returncode, errors


@pytest.fixture
def project(tmp_path: Path, docker: Docker) -> Project:
    return Project(tmp_path, docker)


def test_an_image_in_the_docker_daemon(project: Project) -> None:
    code, errors = project.build("-t", "remote:1", "--build-arg", "WHO=me")
    assert code == 0, errors
    assert f"is in the store of {project.docker.address}" in errors
    assert project.docker.run("run", "--rm", "--network=none", "remote:1") == "for me\na file\n"
    config = json.loads(project.docker.run("inspect", "remote:1"))[0]["Config"]
    assert "A=b" in config["Env"]
    code, errors = project.build("-t", "remote:2", "--build-arg", "WHO=me")
    assert code == 0, errors
    assert errors.count("CACHED") == 3
    # Nothing of it happened in a store of ours.
    assert not (project.folder / "store" / "torana.db").exists()


def test_files_and_archives_come_back(project: Project) -> None:
    out, archive = project.folder / "out", project.folder / "out.tar"
    code, errors = project.build("-o", f"type=local,dest={out}")
    assert code == 0, errors
    assert (out / "made").read_text() == "for you\n"
    assert (out / "src/file").stat().st_mode & 0o777 == 0o640
    code, errors = project.build("-o", f"type=tar,dest={archive}")
    assert code == 0, errors
    with tarfile.open(archive) as tar:
        assert {"made", "src/file", "bin/sh"} <= {name.rstrip("/") for name in tar.getnames()}


def test_failures_show_the_line(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox /bin/sh\nRUN --network=none echo said; exit 7\n")
    code, errors = project.build()
    assert code == 1
    assert "3 | >>> RUN --network=none echo said; exit 7" in errors
    assert "exit code: 7" in errors
    assert "said" in errors
    assert "Traceback" not in errors
    project.dockerfile("FROM scratch\nRUNN x\n")
    code, errors = project.build()
    assert (code, "did you mean RUN?" in errors) == (1, True)


@pytest.mark.parametrize("syntax", ["just", "acme/just:1"])
def test_installed_frontends_of_others_run_on_this_side(
    project: Project, site: Site, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    site.frontend("just", manifest={"aliases": ["acme/just"]})
    monkeypatch.setenv("PYTHONPATH", str(site.path))
    project.dockerfile(f"# syntax={syntax}\n")
    out = project.folder / "out"
    code, errors = project.build("-o", str(out), "--build-arg", "TEXT=made")
    assert code == 0, errors
    assert (out / "just").read_text() == "made"
    assert ("is served by frontend `just`" in errors) == ("/" in syntax)


def test_secrets_reach_a_step_and_nothing_else(project: Project) -> None:
    secret = project.folder / "secret"
    secret.write_text("planted")
    project.dockerfile(
        "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/busybox\n"
        "RUN --network=none --mount=type=secret,id=key"
        ' [ "$(/bin/busybox cat /run/secrets/key)" = planted ]\n'
    )
    code, errors = project.build("--secret", f"id=key,src={secret}")
    assert code == 0, errors
    assert "planted" not in errors.replace("= planted ]", "")


def test_nobody_there(project: Project) -> None:
    code, errors = project.build(address="docker:///nowhere/docker.sock")
    assert code == 1
    assert "no answer from docker:///nowhere/docker.sock: no Docker daemon" in errors
    code, errors = project.build(address="http://host")
    assert code == 2
    assert "invalid address" in errors


def test_interrupting_stops_the_step(project: Project) -> None:
    sleep = f"sleep 600.{os.getpid()}"
    project.dockerfile(
        f"FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/sleep\nRUN --network=none {sleep}\n"
    )
    process = project.start()
    deadline = time.monotonic() + 60
    while sleep not in _processes():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 15
    while sleep in _processes():
        assert time.monotonic() < deadline, "the step is still running"
        time.sleep(0.1)


def _processes() -> str:
    return subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout


async def test_the_same_llb_there_and_here(project: Project, docker: Docker) -> None:
    folders = {"context": project.context, "dockerfile": project.context}
    request = BuildRequest(frontend="dockerfile.v0", local_dirs=folders)
    async with RemoteEngine.open(docker.address) as engine:
        there = await engine.translate(request)
    shown = subprocess.run(
        [sys.executable, "-m", "torana", "llb", ".", "--format", "pb"],
        cwd=project.context,
        env={**os.environ, "TORANA_ROOT": str(project.folder / "store")},
        capture_output=True,
        check=True,
    )
    here = Definition.decode(shown.stdout)
    assert there is not None
    assert _without_sessions(there) == _without_sessions(here)


def _without_sessions(definition: Definition) -> list[object]:
    """Give all ops but for what names the session, which is part of digests above it."""
    found: list[object] = []
    for op in definition.decoded().values():
        kind = op.kind
        if isinstance(kind, o.SourceOp):
            attrs = {k: v for k, v in kind.attrs.items() if k != "local.session"}
            kind = o.SourceOp(identifier=kind.identifier, attrs=attrs)
        found.append((kind, op.platform, [each.index for each in op.inputs]))
    return found
