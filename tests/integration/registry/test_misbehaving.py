"""A real registry behind a proxy that breaks things: the right result, or an error that says where.

Whatever happens, nothing half or wrong is stored.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds
from tests.integration.registry.servers import Fault, Proxy, RealRegistry

from torana.core.errors import ToranaError
from torana.gateway.engines.engine import ExportRequest
from torana.plugins.exporters.pushing import PushError
from torana.plugins.registry import access, connection
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings

pytestmark = pytest.mark.needs("docker-registry")

PAYLOAD = random.Random(6).randbytes(300_000).hex()  # a layer that is not small
TEXT = "FROM scratch\nCOPY Dockerfile payload /\n"
ALWAYS = 1000
BLOBS, MANIFESTS, TAG = "GET .*/blobs/", "GET .*/manifests/", "HEAD .*/manifests/"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def proxy(start_registry: Callable[..., RealRegistry]) -> Iterator[Proxy]:
    made = Proxy(start_registry().host)
    yield made
    made.close()


@pytest.fixture
def new_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Builds]]:
    made: list[Builds] = []

    def make() -> Builds:
        folder = tmp_path / f"build{len(made)}"
        (folder / "context").mkdir(parents=True)
        (folder / "context/payload").write_text(PAYLOAD)
        own = RegistryAccess(RegistrySettings(), NoCredentials())
        monkeypatch.setattr(access, "_default", own)
        made.append(Builds(folder, own))
        return made[-1]

    yield make
    for each in made:
        each.close()


def push(name: str) -> ExportRequest:
    return ExportRequest(type="image", attrs={"name": name, "push": "true"})


def is_sound(builds: Builds) -> bool:
    """Say that the store has no blob that is half or wrong, and nothing that is left over."""
    return not builds.worker.upkeep.check(is_verified=True)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (BLOBS, Fault("drop", 1000)),
        (BLOBS, Fault("hang-up")),
        (BLOBS, Fault("status", 429, {"Retry-After": "0"})),
        (BLOBS, Fault("status", 500)),
        (MANIFESTS, Fault("drop", 10)),
        (MANIFESTS, Fault("status", 503)),
        (TAG, Fault("hang-up")),
        (TAG, Fault("status", 429)),
    ],
)
async def test_what_passes(
    proxy: Proxy, new_builds: Callable[[], Builds], line: str, fault: Fault
) -> None:
    name = f"{proxy.host}/team/app:1"
    await new_builds().build(TEXT, push(name))
    proxy.faults = [(line, fault, 2)]
    builds = new_builds()
    assert (await builds.files(f"FROM {name}\n"))["payload"] == PAYLOAD
    assert proxy.faults[0][2] == 0
    assert is_sound(builds)


@pytest.mark.parametrize(
    ("line", "fault", "message"),
    [
        (BLOBS, Fault("drop", 0), "the connection to {host} broke"),
        (BLOBS, Fault("hang-up"), "{host}"),
        (BLOBS, Fault("status", 429), "too many requests"),
        (BLOBS, Fault("status", 500), "answers 500"),
        (BLOBS, Fault("wrong"), "{host}: .*expected sha256:"),
        (BLOBS, Fault("short", 100), "{host}: .*expected"),
        (MANIFESTS, Fault("wrong"), "{host}: .*expected sha256:"),
        (MANIFESTS, Fault("short", 5), "{host}: .*expected sha256:"),
        (TAG, Fault("status", 502), "answers 502"),
    ],
)
async def test_what_stays(
    proxy: Proxy, new_builds: Callable[[], Builds], line: str, fault: Fault, message: str
) -> None:
    name = f"{proxy.host}/team/app:1"
    await new_builds().build(TEXT, push(name))
    proxy.faults = [(line, fault, ALWAYS)]
    builds = new_builds()
    with pytest.raises(ToranaError, match=message.format(host=proxy.host)) as caught:
        await builds.files(f"FROM {name}\n")
    assert "team/app" in caught.value.message
    assert caught.value.sources, "the error does not point at the step"
    assert is_sound(builds)
    proxy.faults = []
    assert (await builds.files(f"FROM {name}\n"))["payload"] == PAYLOAD


@pytest.mark.parametrize("is_for_good", [False, True])
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("HEAD .*/blobs/", Fault("status", 500)),
        ("POST .*/uploads/", Fault("status", 503)),
        ("PUT .*/uploads/", Fault("hang-up", 1000)),
        ("PUT .*/uploads/", Fault("status", 500)),
        ("PUT .*/manifests/", Fault("hang-up")),
        ("PUT .*/manifests/", Fault("status", 429)),
    ],
)
async def test_pushing(
    proxy: Proxy, new_builds: Callable[[], Builds], line: str, fault: Fault, is_for_good: bool
) -> None:
    name = f"{proxy.host}/team/app:1"
    proxy.faults = [(line, fault, ALWAYS if is_for_good else 2)]
    builds = new_builds()
    if is_for_good:
        with pytest.raises(PushError, match=f"failed to push {name}: .*{proxy.host}"):
            await builds.build(TEXT, push(name))
        proxy.faults = []
        with pytest.raises(ToranaError, match="not found"):  # no name without all it needs
            await new_builds().files(f"FROM {name}\n")
    await builds.build(TEXT, push(name))
    assert (await new_builds().files(f"FROM {name}\n"))["payload"] == PAYLOAD
    assert is_sound(builds)
