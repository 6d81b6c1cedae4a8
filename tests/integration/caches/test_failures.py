"""Caches that cannot be read or written: imports are warnings, exports are errors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.caches.sites import STEPS, Machine
from tests.integration.registry.servers import FaultyRegistry

pytestmark = pytest.mark.needs("root", "busybox")

MakeMachine = Callable[[], Machine]
NOWHERE = "127.0.0.1:1/no/registry:here"


@pytest.fixture
def cache(new_machine: MakeMachine, tmp_path: Path) -> Path:
    """A folder with a good cache."""
    folder = tmp_path / "cache"
    new_machine().build("--cache-to", f"type=local,dest={folder},mode=max")
    return folder


def blob(cache: Path, digest: str) -> Path:
    return cache / "blobs" / digest.replace(":", "/")


def manifest(cache: Path) -> dict[str, Any]:
    (entry,) = json.loads((cache / "index.json").read_text())["manifests"]
    found: dict[str, Any] = json.loads(blob(cache, entry["digest"]).read_text())
    return found


def abandoned(machine: Machine) -> list[Path]:
    return list((machine.folder / "root/content/ingest").iterdir())


def test_imports_that_cannot_be_reached(new_machine: MakeMachine, tmp_path: Path) -> None:
    built = new_machine().build(
        "--cache-from", NOWHERE, "--cache-from", f"type=local,src={tmp_path / 'nothing'}",
    )  # fmt: skip
    assert len(built.executed) == STEPS
    assert f"cache is not imported from {NOWHERE}: " in built.output
    assert f"local cache import at {tmp_path / 'nothing'} skipped" in built.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--cache-to=type=gha", "known: `inline`, `local`, `registry`"),
        ("--cache-from=type=gha", "known: `inline`, `local`, `registry`"),
        ("--cache-to=type=registry,mode=max", "registry cache exporter requires ref"),
        ("--cache-from=type=registry", "registry cache importer requires ref"),
        ("--cache-to=type=local,dest=", "local cache exporter requires dest"),
        ("--cache-from=type=local,dest=x", "local cache importer requires src"),
        ("--cache-from=type=inline", "import it with `type=registry,ref=IMAGE`"),
        ("--cache-from=type=registry,ref=host.io/Upper", "must be lowercase"),
        ("--cache-to=type=registry,ref=host.io/a,compression=lz4", "unsupported layer compression"),
        ("--cache-to=type=registry,ref=host.io/a,ignore-error=perhaps", "not a boolean: `perhaps`"),
        ("--cache-to=type=registry,ref=host.io/a,oci-mediatypes=false,image-manifest=true",
         "OCI mediatypes are required"),
    ],
)  # fmt: skip
def test_wrong_options(new_machine: MakeMachine, option: str, message: str) -> None:
    """They are refused before anything runs, whatever `ignore-error` says."""
    wrong = new_machine().build(option, is_good=False)
    assert message in wrong.output
    assert (wrong.code, wrong.steps) == (2, {})


def test_an_inline_cache_without_an_image(new_machine: MakeMachine, tmp_path: Path) -> None:
    text = "the inline cache is not exported"
    machine = new_machine()
    assert text in machine.build("-o", f"{tmp_path}/out", "--cache-to", "type=inline").output
    assert text in machine.build("--cache-to", "type=inline").output
    assert text not in machine.build("-t", "name", "--cache-to", "type=inline").output


def test_exports_that_fail(new_machine: MakeMachine, tmp_path: Path) -> None:
    machine = new_machine()
    to = f"type=registry,ref={NOWHERE}"
    failed = machine.build("-o", f"{tmp_path}/out", "--cache-to", to, is_good=False)
    assert f"failed to export cache to {NOWHERE}: " in failed.output
    assert "127.0.0.1:1: connection refused" in failed.output
    ignored = machine.build("--cache-to", f"{to},ignore-error=true")
    assert "127.0.0.1:1" in ignored.output
    assert "build cache is in" not in ignored.output
    kept = tmp_path / "kept"
    other = f"type=local,dest={kept}"
    both = machine.build("--cache-to", f"{to},ignore-error=true", "--cache-to", other)
    assert f"build cache is in `{kept}`" in both.output
    assert f"build cache is in `{NOWHERE}`" not in both.output


def test_a_layer_that_is_gone(new_machine: MakeMachine, cache: Path) -> None:
    """Results whose layers are gone are made again; the others are used."""
    top = manifest(cache)
    for layer in top["layers"]:
        if "cat /app/built" in layer["annotations"]["buildkit/description"]:
            blob(cache, layer["digest"]).unlink()
    machine = new_machine()
    built = machine.build("--cache-from", f"type=local,src={cache}")
    assert [name for name in built.executed if "RUN cat /app" not in name] == []
    assert len(built.executed) == 1
    assert "layer of an imported cache cannot be had" in built.output


def damage(cache: Path) -> None:
    for layer in manifest(cache)["layers"]:
        path = blob(cache, layer["digest"])
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o644)
        path.write_bytes(data)


def test_layers_that_are_damaged(new_machine: MakeMachine, cache: Path, tmp_path: Path) -> None:
    """Nobody can know before they are fetched: then the build goes on without the cache."""
    damage(cache)
    machine = new_machine()
    built = machine.build("-o", f"{tmp_path}/out", "--cache-from", f"type=local,src={cache}")
    assert len(built.executed) == STEPS, built.output
    assert "building again without imported caches" in built.output
    assert (tmp_path / "out/app/final").read_text()
    assert abandoned(machine) == []
    # What was made is sound, and known from now on.
    assert machine.build().executed == []


@pytest.mark.needs("crun")
def test_damaged_layers_on_a_daemon(
    new_machine: MakeMachine, new_daemon: MakeMachine, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    """The client drives the build and has returned its result when an export finds out."""
    ref = f"type=registry,ref={faulty.host}/team/cache"
    new_machine().build("--cache-to", f"{ref},mode=max")
    for digest, data in faulty.blobs.items():
        if not data.startswith(b"{"):
            faulty.blobs[digest] = bytes(byte ^ 1 for byte in data)
    machine = new_daemon()
    built = machine.build("-o", f"{tmp_path}/out", "--cache-from", ref)
    assert "building again without imported caches" in built.output
    made = (tmp_path / "out/app/final").read_text()
    again = machine.build("-o", f"{tmp_path}/again")
    assert again.executed == []
    assert (tmp_path / "again/app/final").read_text() == made


def test_layers_that_are_not_what_the_manifest_says(
    new_machine: MakeMachine, cache: Path, tmp_path: Path
) -> None:
    index = json.loads((cache / "index.json").read_text())
    document = manifest(cache)
    for layer in document["layers"]:
        layer["annotations"]["containerd.io/uncompressed"] = "sha256:" + 64 * "1"
    data = json.dumps(document).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blob(cache, digest).write_bytes(data)
    index["manifests"][0] |= {"digest": digest, "size": len(data)}
    (cache / "index.json").write_text(json.dumps(index))
    built = new_machine().build("-o", f"{tmp_path}/out", "--cache-from", f"type=local,src={cache}")
    assert len(built.executed) == STEPS, built.output
    assert "building again without imported caches" in built.output


def test_a_registry_that_breaks_off(
    new_machine: MakeMachine, cache: Path, faulty: FaultyRegistry
) -> None:
    """The manifest is there, and nothing else."""
    document = manifest(cache)
    faulty.manifest("x", document)
    ref = f"{faulty.host}/cache:x"
    built = new_machine().build("--cache-from", ref)
    assert len(built.executed) == STEPS
    assert f"cache is not imported from {ref}" in built.output
    config = document["config"]
    faulty.blob(blob(cache, config["digest"]).read_bytes(), config["mediaType"])
    built = new_machine().build("--cache-from", ref)
    assert len(built.executed) == STEPS
    assert "layer of an imported cache cannot be had" in built.output
