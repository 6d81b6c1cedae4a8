"""Our client on `toranad`: what a build's daemon has of the client's machine."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import Docker
from tests.integration.registry.servers import FaultyRegistry

from torana.core.errors import ToranaError, UsageError
from torana.core.llb.policy import Action, Rule, Selector, SourceDeniedError, SourcePolicy, Update
from torana.gateway.engines.engine import BuildRequest, BuildResult, ExportRequest
from torana.gateway.engines.remote.engine import RemoteEngine
from torana.gateway.testing.daemons import RunningDaemon, start_daemon

pytestmark = pytest.mark.needs("root")


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    """A daemon whose user has logged in nowhere."""
    with tempfile.TemporaryDirectory(prefix="tnd-") as path:
        daemon = start_daemon(Path(path), environment={"DOCKER_CONFIG": path})
        yield daemon
        daemon.stop()


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    """A registry with one user, `user` with the password `word`, and one image, `one`."""
    registry = FaultyRegistry()
    registry.image("one", [tar_of("file", b"of the image\n")])
    registry.users = {"user": f"Basic {base64.b64encode(b'user:word').decode()}"}
    yield registry
    registry.close()


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: FaultyRegistry) -> Path:
    """The client's Docker configuration, logged in to the registry."""
    folder = tmp_path / "docker"
    folder.mkdir()
    auths = {registry.host: {"auth": base64.b64encode(b"user:word").decode()}}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setattr("torana.plugins.registry.access._default", None)
    return folder


def tar_of(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


async def build(
    daemon: RunningDaemon,
    folder: Path,
    dockerfile: str,
    *exports: ExportRequest,
    layouts: dict[str, Path] | None = None,
    policy: SourcePolicy | None = None,
    options: dict[str, str] | None = None,
) -> BuildResult:
    context = folder / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(dockerfile)
    request = BuildRequest(
        frontend="dockerfile.v0",
        local_dirs={"context": context, "dockerfile": context},
        options=options or {},
        oci_layouts=layouts or {},
        source_policy=policy,
        exports=exports,
    )
    async with RemoteEngine.open(daemon.address) as engine:
        return await engine.build(request, Progress())


class Progress:
    def emit(self, event: object) -> None:
        """Show nothing."""


def into(folder: Path) -> ExportRequest:
    return ExportRequest(type="local", dest=str(folder))


@pytest.mark.parametrize("service", ["", "tokens.example"], ids=["basic", "token"])
async def test_the_client_s_password_opens_a_registry(
    daemon: RunningDaemon, registry: FaultyRegistry, login: Path, tmp_path: Path, service: str
) -> None:
    registry.token_service = service
    from_image = f"FROM {registry.host}/x:one\n"
    await build(daemon, tmp_path, from_image, into(tmp_path / "out"))
    assert (tmp_path / "out/file").read_bytes() == b"of the image\n"
    pushed = ExportRequest(type="image", attrs={"name": f"{registry.host}/x:two", "push": "true"})
    await build(daemon, tmp_path, from_image, pushed)
    assert "two" in registry.manifests
    assert (login / ".torana_token_seed").exists() == bool(service)
    # Somebody else gets nothing, whatever the daemon has still got.
    (login / "config.json").write_text("{}")
    with pytest.raises(ToranaError, match=r"authentication required|access denied"):
        await build(daemon, tmp_path, from_image, pushed)


async def test_tokens_are_fetched_by_the_client_and_kept_for_it(
    daemon: RunningDaemon,
    registry: FaultyRegistry,
    login: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.token_service = "tokens.example"
    from_image = f"FROM {registry.host}/x:one\n"
    for number in range(2):
        await build(daemon, tmp_path, from_image, into(tmp_path / f"out{number}"))
        assert len(registry.tokens) == 1
    monkeypatch.setenv("BUILDKIT_NO_CLIENT_TOKEN", "1")
    await build(daemon, tmp_path, from_image, into(tmp_path / "out"))
    assert len(registry.tokens) == 2


async def test_layouts_go_both_ways(daemon: RunningDaemon, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    to_layout = ExportRequest(
        type="oci", dest=str(layout), attrs={"tar": "false", "name": "made:1,example.com/x:2"}
    )
    first = await build(daemon, tmp_path, "FROM scratch\nCOPY Dockerfile /first\n", to_layout)
    digest = first.response["containerimage.digest"]
    index = json.loads((layout / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [digest] * 2
    assert [entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]] == [
        "docker.io/library/made:1",
        "example.com/x:2",
    ]
    assert (layout / "oci-layout").is_file()
    base = {"context:base": f"oci-layout://store@{digest}"}
    dockerfile = "FROM base\nCOPY Dockerfile /second\n"
    out = tmp_path / "out"
    await build(daemon, tmp_path, dockerfile, into(out), layouts={"store": layout}, options=base)
    assert sorted(path.name for path in out.iterdir()) == ["first", "second"]
    await build(daemon, tmp_path, dockerfile, to_layout, layouts={"store": layout}, options=base)
    index = json.loads((layout / "index.json").read_text())
    assert len(index["manifests"]) == 2  # the names are the new image's
    unknown = {"context:base": f"oci-layout://store@sha256:{'0' * 64}"}
    with pytest.raises(ToranaError, match="unknown store oci:store"):
        await build(daemon, tmp_path, dockerfile, into(out), options=unknown)
    with pytest.raises(ToranaError, match="not found"):
        await build(
            daemon, tmp_path, dockerfile, into(out), layouts={"store": layout}, options=unknown
        )


async def test_policies_hold_on_the_daemon(
    daemon: RunningDaemon, registry: FaultyRegistry, tmp_path: Path
) -> None:
    registry.users = {}
    one = f"docker-image://{registry.host}/x:one"
    convert = Rule(
        action=Action.CONVERT,
        selector=Selector(identifier="docker-image://docker.io/library/*:1"),
        update=Update(identifier=one),
    )
    out = into(tmp_path / "out")
    await build(daemon, tmp_path, "FROM unknown:1\n", out, policy=SourcePolicy(rules=(convert,)))
    assert (tmp_path / "out/file").read_bytes() == b"of the image\n"
    deny = Rule(action=Action.DENY, selector=Selector(identifier=one))
    denies = SourcePolicy(rules=(convert, deny))
    for dockerfile in (
        "FROM unknown:1\n",
        f"FROM scratch\nCOPY --from={registry.host}/x:one file /\n",
    ):
        with pytest.raises(SourceDeniedError, match="denied by policy"):
            await build(daemon, tmp_path, dockerfile, out, policy=denies)
    nothing_local = Rule(action=Action.DENY, selector=Selector(identifier="local://context"))
    with pytest.raises(SourceDeniedError, match='source "local://context" denied by policy'):
        await build(
            daemon,
            tmp_path,
            "FROM scratch\nCOPY Dockerfile /\n",
            out,
            policy=SourcePolicy(rules=(nothing_local,)),
        )


@pytest.mark.needs("dockerd")
async def test_the_client_s_docker_daemon_takes_an_image(
    daemon: RunningDaemon, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{docker.socket}")
    loaded = ExportRequest(type="docker", attrs={"name": "from-toranad:1"})
    await build(daemon, tmp_path, "FROM scratch\nCOPY Dockerfile /\nENV A=b\n", loaded)
    assert "A=b" in docker.run("inspect", "-f", "{{.Config.Env}}", "from-toranad:1")
    docker.run("rmi", "from-toranad:1")


@pytest.mark.parametrize("mode", ["copy", "delete"])
async def test_platforms_that_overwrite_each_other(
    daemon: RunningDaemon, tmp_path: Path, mode: str
) -> None:
    """Nothing is sent: the client's folder stays as it was."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "same").write_text("mine")
    attrs = {"platform-split": "false", "mode": mode}
    export = ExportRequest(type="local", dest=str(out), attrs=attrs)
    options = {"platform": "linux/amd64,linux/arm64"}
    with pytest.raises(ToranaError, match="cannot overwrite same from linux/amd64 with linux/arm"):
        await build(
            daemon, tmp_path, "FROM scratch\nCOPY Dockerfile /same\n", export, options=options
        )
    assert (out / "same").read_text() == "mine"
    apart = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n"
    await build(daemon, tmp_path, apart, export, options=options)
    assert {"amd64", "arm64"} <= {path.name for path in out.iterdir()}


async def test_options_that_are_wrong_are_told_as_such(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    for attrs, text in [
        ({"compression": "lz4"}, "unsupported layer compression type"),
        ({"store": "perhaps"}, "non-bool value specified for store"),
    ]:
        wrong = ExportRequest(type="image", attrs=attrs)
        with pytest.raises(UsageError, match=text):
            await build(daemon, tmp_path, "FROM scratch\nCOPY nowhere /\n", wrong)
    with pytest.raises(UsageError, match='exporter "floppy" could not be found'):
        await build(daemon, tmp_path, "FROM scratch\n", ExportRequest(type="floppy"))
