"""Other programs accept what is exported, and find in it what was built."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.integration.conftest import Docker
from tests.integration.registry.builds import Builds, Layout
from tests.integration.registry.servers import FaultyRegistry, digest_of

from torana.gateway.engines.engine import ExportRequest

TEXT = """\
FROM scratch
COPY tree /tree/
COPY --chmod=751 Dockerfile /tree/d/run
ADD packed.tar /
ENV A=b
CMD ["/tree/d/run"]
"""
BOTH = "linux/amd64,linux/arm64"
FILES = {"tree/a": "a", "tree/d/b": "b", "tree/ü x": "u", "linked": "l", "tree/d/run": TEXT}


@pytest.fixture
def builds(builds: Builds) -> Builds:
    tree = builds.root / "context/tree"
    (tree / "d").mkdir(parents=True)
    for name in ("tree/a", "tree/d/b", "tree/ü x"):
        (builds.root / "context" / name).write_text(FILES[name])
    (tree / "sym").symlink_to("d/b")
    with tarfile.open(builds.root / "context/packed.tar", "w") as archive:
        (builds.root / "l").write_text("l")
        archive.add(builds.root / "l", "linked")
        member = tarfile.TarInfo("hard")
        member.type, member.linkname = tarfile.LNKTYPE, "linked"
        archive.addfile(member)
    return builds


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(root: Path) -> None:
    for name, text in FILES.items():
        assert (root / name).read_text() == text
    assert os.path.samefile(root / "linked", root / "hard")
    assert os.readlink(root / "tree/sym") == "d/b"
    assert (root / "tree/d/run").stat().st_mode & 0o777 == 0o751


@pytest.mark.needs("umoci", "root")
@pytest.mark.parametrize("compression", ["gzip", "uncompressed", "estargz"])
async def test_umoci_unpacks_it(builds: Builds, tmp_path: Path, compression: str) -> None:
    made = await builds.layout(TEXT, {"name": "app:1", "compression": compression})
    run("umoci", "unpack", "--image", f"{made.folder}:1", tmp_path / "bundle")
    check(tmp_path / "bundle/rootfs")
    spec = json.loads((tmp_path / "bundle/config.json").read_text())
    assert spec["process"]["args"] == ["/tree/d/run"]
    assert "A=b" in spec["process"]["env"]


@pytest.mark.needs("umoci", "skopeo", "root")
@pytest.mark.parametrize("compression", ["gzip", "zstd", "uncompressed", "estargz"])
async def test_skopeo_copies_every_form(builds: Builds, tmp_path: Path, compression: str) -> None:
    attrs = {"name": "app:1", "compression": compression}
    made = await builds.layout(TEXT, attrs, platform=BOTH)
    (index,) = made.entries
    copied = tmp_path / "copied"
    run("skopeo", "copy", "--all", "--preserve-digests", f"oci:{made.folder}:1", f"dir:{copied}")
    assert json.loads((copied / "manifest.json").read_text()) == made.document(index)
    for entry in made.document(index)["manifests"]:
        manifest = made.document(entry)
        for blob in (manifest["config"], *manifest["layers"]):
            name = blob["digest"].partition(":")[2]
            assert (copied / name).read_bytes() == made.blob(blob)
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{made.folder}:1"))
    assert config["config"]["Cmd"] == ["/tree/d/run"]
    # One of its platforms for those who know no zstd: the files are the same.
    plain = tmp_path / "plain"
    run(
        "skopeo", "copy", "--override-arch", "arm64", "--dest-compress",
        "--dest-compress-format=gzip", "--format=oci", f"oci:{made.folder}:1", f"oci:{plain}:1",
    )  # fmt: skip
    run("umoci", "unpack", "--image", f"{plain}:1", tmp_path / "bundle")
    check(tmp_path / "bundle/rootfs")
    assert (
        Layout(plain).document(Layout(plain).document(Layout(plain).entries[0])["config"])[
            "architecture"
        ]
        == "arm64"
    )


@pytest.mark.needs("skopeo")
async def test_docker_types_in_a_registry(
    builds: Builds, registry: FaultyRegistry, tmp_path: Path
) -> None:
    attrs = {"name": f"{registry.host}/app:1", "push": "true", "oci-mediatypes": "false"}
    answer = await builds.build(TEXT, ExportRequest(type="image", attrs=attrs), platform=BOTH)
    copied = tmp_path / "copied"
    run(
        "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
        f"docker://{registry.host}/app:1", f"dir:{copied}",
    )  # fmt: skip
    data = (copied / "manifest.json").read_bytes()
    assert digest_of(data) == answer["containerimage.digest"]
    kinds = {each["mediaType"] for each in json.loads(data)["manifests"]}
    assert kinds == {"application/vnd.docker.distribution.manifest.v2+json"}


@pytest.mark.needs("dockerd", "root")
@pytest.mark.parametrize(
    "attrs",
    [{}, {"oci-mediatypes": "false"}, {"compression": "uncompressed"}, {"compression": "estargz"}],
)
async def test_docker_loads_it(
    builds: Builds, docker: Docker, tmp_path: Path, attrs: dict[str, str]
) -> None:
    archive, out = tmp_path / "app.tar", tmp_path / "out"
    export = ExportRequest(type="docker", dest=str(archive), attrs={"name": "app:1,app:2", **attrs})
    await builds.build(TEXT, export)
    docker.run("load", "-i", archive)
    assert docker.run("inspect", "-f", "{{.Id}}", "app:1") == docker.run(
        "inspect", "-f", "{{.Id}}", "app:2"
    )
    container = docker.run("create", "app:1").strip()
    try:
        docker.run("export", "-o", tmp_path / "files.tar", container)
        out.mkdir()
        run("tar", "-xf", tmp_path / "files.tar", "-C", out)
        check(out)
    finally:
        docker.run("rm", container)
        docker.run("rmi", "app:1", "app:2")
