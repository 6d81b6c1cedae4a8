"""Two machines that are joined by nothing but a cache: the second executes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.caches.sites import STEPS, Machine
from tests.integration.registry.servers import RealRegistry

pytestmark = pytest.mark.needs("root", "busybox", "docker-registry", "runc")

MakeMachine = Callable[[], Machine]


@pytest.fixture
def make(request: pytest.FixtureRequest, engine: str) -> MakeMachine:
    """Makes machines of one kind."""
    name = "new_machine" if engine == "embedded" else "new_daemon"
    found: MakeMachine = request.getfixturevalue(name)
    return found


def image(folder: Path) -> str:
    return f"type=oci,dest={folder}/image.tar"


@pytest.mark.parametrize(
    ("engine", "mode"), [("embedded", "min"), ("embedded", "max"), ("daemon", "max")]
)
def test_by_a_folder(make: MakeMachine, tmp_path: Path, mode: str) -> None:
    cache = tmp_path / "cache"
    first = make().build(
        "-o", image(tmp_path), "--cache-to", f"type=local,dest={cache},mode={mode}"
    )
    assert len(first.executed) == STEPS, first.output
    assert "exporting cache to client directory" in first.output
    second = make().build("-o", image(tmp_path), "--cache-from", f"type=local,src={cache}")
    assert second.executed == [], second.output
    assert len(second.steps) == STEPS
    assert second.digest == first.digest
    assert "importing cache manifest from local:" in second.output


@pytest.mark.parametrize(("engine", "mode"), [("embedded", "max"), ("daemon", "min")])
def test_by_a_registry(
    make: MakeMachine, registry: RealRegistry, tmp_path: Path, mode: str
) -> None:
    ref = f"{registry.host}/{tmp_path.name}/cache:{mode}"
    first = make().build(
        "-o", image(tmp_path), "--cache-to", f"type=registry,ref={ref},mode={mode}"
    )
    assert "exporting cache to registry" in first.output
    second = make().build("-o", image(tmp_path), "--cache-from", ref)
    assert f"importing cache manifest from {ref}" in second.output
    assert second.executed == [], second.output
    assert second.digest == first.digest


@pytest.mark.parametrize("engine", ["embedded", "daemon"])
def test_by_the_image_itself(make: MakeMachine, registry: RealRegistry, tmp_path: Path) -> None:
    ref = f"{registry.host}/{tmp_path.name}/image:1"
    push = f"type=image,name={ref},push=true"
    first = make().build("-o", push, "--cache-to", "type=inline")
    second = make().build("-o", push, "--cache-from", ref, "--cache-to", "type=inline")
    assert second.executed == [], second.output
    assert first.digest


def test_max_has_what_leads_to_the_result(
    new_machine: MakeMachine, tmp_path: Path, context: Path
) -> None:
    """Of a changed build, what did not change is taken from a `max` cache, and not from `min`."""
    for mode in ("min", "max"):
        new_machine().build("--cache-to", f"type=local,dest={tmp_path / mode},mode={mode}")
    dockerfile = context / "Dockerfile"
    changed = dockerfile.read_text().replace("RUN cat /src/text", "RUN true; cat /src/text")
    dockerfile.write_text(changed)
    for mode, parts in (("min", ["base"]), ("max", ["base", "COPY src"])):
        built = new_machine().build("--cache-from", f"type=local,src={tmp_path / mode}")
        known = {name for name in built.steps if any(part in name for part in parts)}
        assert set(built.steps) - set(built.executed) == known


def test_layers_stay_where_they_are(new_machine: MakeMachine, tmp_path: Path) -> None:
    """A build that is cached, and exports nothing, fetches nothing."""
    cache = tmp_path / "cache"
    new_machine().build("--cache-to", f"type=local,dest={cache},mode=max")
    second = new_machine()
    assert second.build("--cache-from", f"type=local,src={cache}").executed == []
    layers = json.loads(manifest_of(cache))["layers"]
    here = {path.name for path in (second.folder / "root/content/blobs/sha256").iterdir()}
    assert layers
    assert not here & {layer["digest"].partition(":")[2] for layer in layers}


def manifest_of(cache: Path, tag: str = "latest") -> str:
    index: dict[str, Any] = json.loads((cache / "index.json").read_text())
    (entry,) = (
        entry
        for entry in index["manifests"]
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag
    )
    return (cache / "blobs" / str(entry["digest"]).replace(":", "/")).read_text()


@pytest.mark.parametrize(
    "options",
    [
        "compression=zstd,compression-level=3,force-compression=true",
        "compression=uncompressed,image-manifest=false",
        "oci-mediatypes=false,compression=gzip,compression-level=9",
    ],
)
def test_forms(new_machine: MakeMachine, tmp_path: Path, options: str) -> None:
    cache = tmp_path / "cache"
    first = new_machine().build("--cache-to", f"type=local,dest={cache},mode=max,{options}")
    manifest = json.loads(manifest_of(cache))
    is_index = "manifests" in manifest
    assert is_index == ("image-manifest=false" in options or "oci-mediatypes=false" in options)
    blobs = manifest["manifests"][:-1] if is_index else manifest["layers"]
    ends = {"zstd": "+zstd", "uncompressed": "layer.v1.tar", "oci-mediatypes": "diff.tar.gzip"}
    end = next((end for word, end in ends.items() if word in options), "tar+gzip")
    assert {blob["mediaType"].endswith(end) for blob in blobs} == {True}
    assert {tuple(sorted(blob["annotations"])) for blob in blobs} == {
        ("buildkit/createdat", "buildkit/description", "containerd.io/uncompressed")
    }
    second = new_machine().build("--cache-from", f"type=local,src={cache}")
    assert second.executed == [], second.output
    assert len(second.steps) == len(first.steps)


def test_the_files_are_those_of_the_first(new_machine: MakeMachine, tmp_path: Path) -> None:
    cache = f"{tmp_path}/cache"
    new_machine().build("-o", f"{tmp_path}/one", "--cache-to", f"type=local,dest={cache}")
    second = new_machine()
    second.build("-o", f"{tmp_path}/two", "--cache-from", f"type=local,src={cache}")
    texts = [(tmp_path / name / "app/final").read_text() for name in ("one", "two")]
    assert texts[0] == texts[1]
    # Its results are this machine's own now.
    shutil.rmtree(cache)
    third = second.build("-o", f"{tmp_path}/three")
    assert third.executed == [], third.output


def test_tags_of_a_folder(new_machine: MakeMachine, tmp_path: Path, context: Path) -> None:
    cache = tmp_path / "cache"
    machine = new_machine()
    machine.build("--cache-to", f"type=local,dest={cache},mode=max,tag=one")
    (context / "src/text").write_text("two\n")
    machine.build("--cache-to", f"type=local,dest={cache},mode=max,tag=two")
    digest = json.loads((cache / "index.json").read_text())["manifests"][0]["digest"]
    assert new_machine().build("--cache-from", f"type=local,src={cache},tag=two").executed == []
    by_digest = f"type=local,src={cache},digest={digest}"
    assert new_machine().build("--cache-from", by_digest).executed != []
    both = new_machine().build(
        "--cache-from", by_digest, "--cache-from", f"type=local,src={cache},tag=two"
    )
    assert both.executed == []
    before = len(list((cache / "blobs/sha256").iterdir()))
    machine.build("--cache-to", f"type=local,dest={cache},tag=one,reset=true")
    assert len(list((cache / "blobs/sha256").iterdir())) < before
    assert new_machine().build("--cache-from", f"type=local,src={cache},tag=two").executed == []


def test_layers_are_passed_on_within_a_registry(
    new_machine: MakeMachine, registry: RealRegistry, tmp_path: Path
) -> None:
    """What a registry has in one repository goes to another without coming here."""
    refs = [f"{registry.host}/{tmp_path.name}/{name}" for name in ("one", "two")]
    new_machine().build("--cache-to", f"type=registry,ref={refs[0]},mode=max")
    second = new_machine()
    second.build("--cache-from", refs[0], "--cache-to", f"type=registry,ref={refs[1]},mode=max")
    blobs = list((second.folder / "root/content/blobs/sha256").iterdir())
    assert [path for path in blobs if path.read_bytes().startswith(b"\x1f\x8b")] == []
    third = new_machine().build("-o", image(tmp_path), "--cache-from", refs[1])
    assert third.executed == [], third.output
