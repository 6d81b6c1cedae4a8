"""Caches of the stock builders: what they export gives hits here, and the other way round.

`tests/golden/caches/buildkit` is what BuildKit of August 2026 exported of the context in it:
`max` by `--export-cache type=local,mode=max`, `inline` an image with `--export-cache type=inline`.
`nothing` is a program of 129 bytes that does nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import ROOT
from tests.integration.caches.sites import Machine
from tests.integration.conftest import Docker
from tests.integration.registry.servers import FaultyRegistry, RealRegistry

from torana.core.remotecache.config import CacheConfig, in_order

MakeMachine = Callable[[], Machine]
GOLDEN = ROOT / "tests/golden/caches/buildkit"
STEPS = 8

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """The context of the golden cache, with the modes it had: they are part of keys."""
    folder = tmp_path / "context"
    shutil.copytree(GOLDEN / "context", folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name == "nothing" else 0o644)
    return folder


def test_a_folder_of_buildkit(new_machine: MakeMachine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built = new_machine().build("-o", str(out), "--cache-from", f"type=local,src={GOLDEN / 'max'}")
    assert built.executed == [], built.output
    assert len(built.steps) == STEPS
    assert (out / "work/linked").read_text() == (out / "work/copied").read_text() == "text\n"


def test_an_image_of_buildkit(
    new_machine: MakeMachine, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    inline = GOLDEN / "inline"
    index = json.loads((inline / "index.json").read_text())
    digest = index["manifests"][0]["digest"]
    for path in (inline / "blobs/sha256").iterdir():
        faulty.blob(path.read_bytes())
    media_type, data = index["manifests"][0]["mediaType"], faulty.blobs[digest]
    faulty.manifests["x"] = faulty.manifests[digest] = media_type, data
    built = new_machine().build("--cache-from", f"{faulty.host}/image:x")
    assert built.executed == [], built.output


@pytest.mark.needs("runc")
def test_what_is_exported_is_what_buildkit_exports(
    new_machine: MakeMachine, tmp_path: Path
) -> None:
    """The same keys, led to by the same links, with as many layers: made here, or passed on."""
    wanted = keys_of(GOLDEN / "max")
    made, passed_on = tmp_path / "made", tmp_path / "passed-on"
    new_machine().build("--cache-to", f"type=local,dest={made},mode=max")
    assert keys_of(made) == wanted
    new_machine().build(
        "--cache-from", f"type=local,src={GOLDEN / 'max'}",
        "--cache-to", f"type=local,dest={passed_on},mode=max",
    )  # fmt: skip
    assert keys_of(passed_on) == wanted


def keys_of(folder: Path) -> set[Any]:
    """Give each record of a cache with how it is led to, and how many layers it has."""
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(folder, entry["digest"]))
    config = CacheConfig.from_json(blob(folder, manifest["config"]["digest"]))
    found: dict[int, Any] = {}
    for number in in_order(config.records):
        record = config.records[number]
        inputs = tuple(
            frozenset((found[each.link], each.selector) for each in alternatives)
            for alternatives in record.inputs
        )
        counts = tuple(len(config.chain(each.layer)) for each in record.results)
        found[number] = record.digest, inputs, counts
    return set(found.values())


def blob(folder: Path, digest: str) -> bytes:
    return (folder / "blobs" / digest.replace(":", "/")).read_bytes()


COPIES = """\
FROM scratch AS one
COPY src /src
FROM scratch
COPY --from=one /src/file /copied
COPY nothing /bin/
WORKDIR /work
"""


@pytest.mark.needs("dockerd", "docker-registry")
def test_images_of_docker(
    new_machine: MakeMachine,
    docker: Docker,
    registry: RealRegistry,
    context: Path,
    tmp_path: Path,
) -> None:
    """Keys of RUN are others in the BuildKit of Docker 20.10, also for today's BuildKit."""
    (context / "Dockerfile").write_text(COPIES)
    here = new_machine()
    folder = tmp_path / "client"
    folder.mkdir()
    there = Machine(folder, context, docker.address)
    refs = [f"{registry.host}/{name}:{tmp_path.name.lower()}" for name in ("there", "here")]
    there.build("-t", refs[0], "--cache-to", "type=inline")
    docker.run("push", refs[0])
    built = here.build("--cache-from", refs[0])
    assert built.executed == [], built.output
    new_machine().build("-t", refs[1], "--push", "--cache-to", "type=inline")
    docker.run("builder", "prune", "-af")
    docker.run("rmi", "-f", refs[0])
    built = there.build("--cache-from", refs[1])
    assert f"importing cache manifest from {refs[1]}" in built.output
    assert built.executed == [], built.output
