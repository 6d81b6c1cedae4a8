"""Each example exists as Dockerfile and as YAML, and both are the same build.

Equal ops make equal trees; what is compared besides is the config, without the history that only
Dockerfiles write.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.golden.llb.stub_client import StubReference
from tests.golden.yaml.golden import AnyImage, CaseClient

from torana.core.oci.digest import Digest
from torana.frontends.dockerfile import DockerfileFrontend
from torana.frontends.yaml import YamlFrontend

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FOLDERS = sorted(path.parent for path in EXAMPLES.glob("*/Dockerfile"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
async def test_twins(folder: Path) -> None:
    assert (folder / "build.yaml").is_file()
    dockerfile = await built(DockerfileFrontend(), folder, "Dockerfile")
    yaml = await built(YamlFrontend(), folder, "build.yaml")
    assert yaml == dockerfile


async def built(frontend: Any, folder: Path, filename: str) -> tuple[list[Digest], dict[str, Any]]:
    client = CaseClient(
        folder=folder,
        images=AnyImage({}),
        options={"filename": filename, "tests": "none"},
        locals={"dockerfile": ".", "context": "."},
    )
    result = await frontend.build(client)
    assert isinstance(result.ref, StubReference)
    definition = result.ref.request.definition
    assert definition is not None
    config = json.loads(result.metadata["containerimage.config"])
    config.pop("history", None)
    return sorted(Digest.of(op) for op in definition.ops), config
