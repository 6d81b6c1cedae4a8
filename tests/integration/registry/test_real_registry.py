"""Builds from a real registry: pulled, pinned and rebuilt without it, behind a password."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.servers import RealRegistry

from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import DockerCredentials
from torana.plugins.registry.errors import RegistryAuthError
from torana.plugins.registry.settings import RegistrySettings

pytestmark = pytest.mark.needs("docker-registry", "skopeo")

# bcrypt of `secret`, as htpasswd -B writes it
HTPASSWD = "ann:$2b$05$sEgPJgJ4ilExEU5.xYY0jOGMH5WvRy7NYVRtgajAjom5Kk7nxjJP6\n"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An image of two layers, put together by Torana itself."""
    made = Builds(tmp_path / "maker", RegistryAccess(RegistrySettings(), DockerCredentials()))
    try:
        (tmp_path / "maker/context").mkdir()
        (tmp_path / "maker/context/a").write_text("a")
        text = "FROM scratch\nCOPY a /etc/a\nCOPY a /etc/b\nENV WHO=me\n"
        asyncio.run(made.image(text))
    finally:
        made.close()
    return tmp_path / "maker/image.tar"


def push(layout: Path, target: str, *, login: str = "") -> None:
    command = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"]
    command += [f"--dest-creds={login}"] if login else []
    command += [f"oci-archive:{layout}", f"docker://{target}"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def builds(tmp_path: Path) -> Iterator[Builds]:
    (tmp_path / "build").mkdir()
    config = tmp_path / "config.json"
    access = RegistryAccess(RegistrySettings(), DockerCredentials(config))
    made = Builds(tmp_path / "build", access)
    yield made
    made.close()


def test_pull_and_build_without_it(
    layout: Path, builds: Builds, start_registry: Callable[..., RealRegistry]
) -> None:
    registry = start_registry()
    name = f"{registry.host}/debian"
    push(layout, f"{name}:latest")

    async def build() -> None:
        text = f"FROM {name}\nCOPY Dockerfile /$WHO\n"
        image = await builds.image(text)
        assert len(image["manifest"]["layers"]) == 3
        assert "WHO=me" in image["config"]["config"]["Env"]
        found = await builds.files(text)
        assert sorted(found) == ["etc/a", "etc/b", "me"]
        digest = await pinned(registry)
        registry.stop()
        text = f"FROM {name}:latest@{digest}\nCOPY Dockerfile /other\n"
        assert sorted(await builds.files(text)) == ["etc/a", "etc/b", "other"]

    async def pinned(registry: RealRegistry) -> str:
        done = subprocess.run(
            ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/debian"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return str(json.loads(done.stdout)["Digest"])

    asyncio.run(build())


def test_a_registry_with_passwords(
    layout: Path, builds: Builds, start_registry: Callable[..., RealRegistry], tmp_path: Path
) -> None:
    registry = start_registry(htpasswd=HTPASSWD)
    name = f"{registry.host}/private/app"
    push(layout, f"{name}:1", login="ann:secret")
    config = tmp_path / "config.json"

    def login(text: str) -> None:
        auth = base64.b64encode(text.encode()).decode()
        config.write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))

    async def build() -> None:
        with pytest.raises(RegistryAuthError, match=name) as caught:
            await builds.files(f"FROM {name}:1\n")
        assert caught.value.hint == f"log in: `docker login {registry.host}`"
        login("ann:wrong")
        with pytest.raises(RegistryAuthError, match="access denied"):
            await builds.files(f"FROM {name}:1\n")
        login("ann:secret")
        assert sorted(await builds.files(f"FROM {name}:1\n")) == ["etc/a", "etc/b"]

    asyncio.run(build())
