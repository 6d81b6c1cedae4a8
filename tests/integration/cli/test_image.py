"""`torana image`: images by name, in and out without a changed byte."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cli.test_build import Project
from tests.integration.conftest import Docker
from tests.integration.registry.servers import RealRegistry

pytestmark = pytest.mark.needs("root", "busybox")

TEXT = "FROM scratch\nCOPY Dockerfile /\nENV A=b\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.dockerfile(TEXT)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    made = RealRegistry(folder)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def run(project: Project) -> Callable[..., str]:
    def run(*arguments: str, fails: bool = False, **environment: str) -> str:
        done = project.run(*arguments, **environment)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def images(run: Callable[..., str], *names: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("image", "ls", "--format", "json", *names))
    return found


def skopeo(*arguments: str | Path) -> str:
    command = ["skopeo", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_list_inspect_and_remove(run: Callable[..., str]) -> None:
    assert run("image", "ls").split() == ["NAME", "DIGEST", "PLATFORMS", "SIZE", "UPDATED"]
    run("build", "-t", "one", "-t", "host.io/two:3", ".")
    run("build", "-t", "both", "--platform", "linux/amd64,linux/arm64", ".")
    listed = {each["name"]: each for each in images(run)}
    assert set(listed) == {
        "docker.io/library/one:latest",
        "docker.io/library/both:latest",
        "host.io/two:3",
    }
    assert listed["docker.io/library/both:latest"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert "\none:latest " in run("image", "ls")
    (shown,) = json.loads(run("image", "inspect", "both"))
    assert len(shown["manifests"]) == 2
    assert shown["manifests"][1]["config"]["content"]["config"]["Env"][-1] == "A=b"
    raw = json.loads(run("image", "inspect", "--raw", "both"))
    assert [m["digest"] for m in raw["manifests"]] == [m["digest"] for m in shown["manifests"]]
    assert run("image", "rm", "one").split() == ["docker.io/library/one:latest"]
    assert len(images(run)) == 2
    run("prune", "--all")
    assert run("image", "inspect", "--raw", "host.io/two:3")  # what is named stays
    assert "no such image: `one`" in run("image", "rm", "one", fails=True)
    assert "no such image: `one`" in run("image", "ls", "one", fails=True)


def test_a_removed_image_is_built_again(project: Project, run: Callable[..., str]) -> None:
    del project  # its memo counts here
    for _ in range(2):
        run("build", "-t", "one", ".", TORANA_NO_MEMO="")
    run("image", "rm", "one")
    run("build", "-t", "one", ".", TORANA_NO_MEMO="")
    assert len(images(run, "one")) == 1


@pytest.mark.needs("skopeo")
def test_out_and_in_without_a_changed_byte(
    project: Project, run: Callable[..., str], tmp_path: Path
) -> None:
    run("build", "-t", "one:1", ".")
    run("build", "-t", "both", "--platform", "linux/amd64,linux/arm64", ".")
    before = {each["name"]: each["digest"] for each in images(run)}
    archive, folder = tmp_path / "a.tar", tmp_path / "layout"
    run("image", "save", "one:1", "both", "-o", str(archive))
    run("image", "save", "--type", "layout", "both", "-o", str(folder))
    digest = skopeo("inspect", "--raw", f"oci:{folder}:latest")
    assert json.loads(digest) == json.loads(run("image", "inspect", "--raw", "both"))
    copied = tmp_path / "copied"
    skopeo("copy", "--all", "--preserve-digests", f"oci-archive:{archive}:latest", f"oci:{copied}")
    for name in ("one:1", "both"):
        run("image", "rm", name)
    run("prune", "--all")
    assert not images(run)
    assert "has no name" in run("image", "load", str(copied), fails=True)
    run("image", "load", str(copied), "-t", "both")
    run("image", "load", str(archive))
    assert {each["name"]: each["digest"] for each in images(run)} == before
    run("image", "rm", "one:1", "both")
    run("image", "load", str(folder))
    assert {each["name"]: each["digest"] for each in images(run)}.items() <= before.items()
    (project.context / "Dockerfile").write_text("FROM both\nCOPY Dockerfile /more\n")
    assert "/more" not in run("build", "-o", str(tmp_path / "out"), ".")
    assert (tmp_path / "out/more").exists()


def test_archives_that_are_none(project: Project, run: Callable[..., str]) -> None:
    run("build", "-t", "one", "-o", "type=oci,tar=false,dest=layout", ".")
    (blob,) = [
        path
        for path in (project.context / "layout/blobs/sha256").iterdir()
        if b"history" in path.read_bytes()
    ]
    blob.write_bytes(b"{}")
    text = run("image", "load", "layout", fails=True, TORANA_ROOT=str(project.folder / "other"))
    assert f"expected sha256:{blob.name}" in text
    blob.unlink()
    text = run("image", "load", "layout", fails=True, TORANA_ROOT=str(project.folder / "other"))
    assert f"incomplete: blob not found: sha256:{blob.name}" in text
    with tarfile.open(project.context / "x.tar", "w") as archive:
        archive.add(project.context / "Dockerfile", "index.html")
    assert "no OCI layout: `x.tar`" in run("image", "load", "x.tar", fails=True)
    assert "no OCI layout: `Dockerfile`" in run("image", "load", "Dockerfile", fails=True)
    assert "no OCI layout: `.`" in run("image", "load", ".", fails=True)
    assert "no such file" in run("image", "load", "missing", fails=True)


@pytest.mark.needs("skopeo", "docker-registry")
def test_push(run: Callable[..., str], registry: RealRegistry) -> None:
    run("build", "-t", "both", "--platform", "linux/amd64,linux/arm64", ".")
    name = f"{registry.host}/team/both"
    pushed = run("image", "push", "both", name)
    assert pushed.strip() == f"{name}:latest@{images(run)[0]['digest']}"
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
    assert json.loads(raw) == json.loads(run("image", "inspect", "--raw", "both"))
    run("build", "--push", "-t", f"{name}:2", ".")
    skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}:2")


@pytest.mark.needs("dockerd")
def test_loading_into_docker(run: Callable[..., str], docker: Docker, project: Project) -> None:
    host = f"unix://{docker.socket}"
    run("build", "--load", "-t", "loaded:1", "-t", "loaded:2", ".", DOCKER_HOST=host)
    for name in ("loaded:1", "loaded:2"):
        assert "A=b" in docker.run("inspect", "-f", "{{.Config.Env}}", name)
    run("build", "-t", "archived", ".")
    run("image", "save", "archived", "-o", "saved.tar")
    docker.run("load", "-i", project.context / "saved.tar")
    assert "A=b" in docker.run("inspect", "-f", "{{.Config.Env}}", "archived")
    both = ("--platform", "linux/amd64,linux/arm64", "-t", "both")
    text = run("build", "--load", *both, ".", fails=True, DOCKER_HOST=host)
    assert "does not currently support exporting manifest lists" in text
    run("build", *both, ".")
    text = run("image", "save", "--type", "docker", "both", "-o", "x.tar", fails=True)
    assert "takes no image of several platforms" in text


def test_images_by_digest(run: Callable[..., str], project: Project) -> None:
    run("build", ".", "-t", "one", "-t", "two:2")
    project.dockerfile(TEXT.replace("A=b", "A=c"))
    run("build", ".", "-t", "other")
    digests = {each["name"]: each["digest"] for each in images(run)}
    digest, other = (
        digests[f"docker.io/library/{name}"] for name in ("one:latest", "other:latest")
    )
    for written in (digest, digest[:19], digest[7:19], f"one@{digest}", f"two:2@{digest}"):
        (found,) = images(run, written)
        assert found["digest"] == digest
    assert len(images(run, "one", "one:latest", "docker.io/library/one")) == 1
    for written in (digest[7:11], f"one@{other}", "f" * 12, f"one@{digest[:20]}"):
        assert f"no such image: `{written}`" in run("image", "inspect", written, fails=True)
    several = run("image", "rm", digest[7:19], fails=True)
    assert "several names" in several
    assert "docker.io/library/one:latest docker.io/library/two:2" in several
    assert run("image", "rm", other[7:19]).strip() == "docker.io/library/other:latest"
    assert run("image", "rm", "one", "one:latest").split() == ["docker.io/library/one:latest"]
    run("image", "save", digest[7:19], "-o", "saved.tar")
    assert run("image", "rm", digest[7:19]).strip() == "docker.io/library/two:2"
    assert images(run) == []
    assert run("image", "load", "saved.tar").strip() == f"docker.io/library/two:2@{digest}"
