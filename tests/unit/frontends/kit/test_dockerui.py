"""What BuildKit's `dockerui` makes of a client's options, for a language of the kit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from torana.core.errors import BuildFileError
from torana.core.llb import ops as o
from torana.core.oci.digest import Digest
from torana.frontends.kit import (
    CDIDevice,
    Image,
    LowerContext,
    Place,
    SecurityMode,
    Target,
    TextFrontend,
    cache_mount,
)
from torana.frontends.kit.epoch import InvalidEpochError
from torana.frontends.kit.testing.built import Built
from torana.frontends.kit.testing.gateway import FakeGateway

NOON = "1700000000"


class TwoFrontend(TextFrontend[str]):
    """Two targets, of which the second is made of the first."""

    name = "two"
    filename = "Twofile"

    def parse(self, text: str, whole: Place) -> str:
        _PLACES[:] = [whole]
        return text

    def targets(self, tree: str) -> Sequence[Target]:
        return [Target(name=name, place=_PLACES[0]) for name in ("Base", "app")]

    async def lower(self, tree: str, context: LowerContext) -> Image:
        image = context.part_of("Base", await context.image("alpine"))
        image = image.run("base", mounts=[cache_mount("/cache", "pip")]).write("/made/file", "x")
        if context.target is not None and context.target.name == "Base":
            return image
        return context.part_of("app", image).run("app")


_PLACES: list[Place] = []


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(images={"alpine": {"Cmd": ["sh"]}}, contexts={"context": {"a": ""}})


def _build(gateway: FakeGateway, **options: str) -> Built:
    named = {key.replace("__", ":").replace("_", "-"): value for key, value in options.items()}
    named = {_arg(key): value for key, value in named.items()}
    return asyncio.run(gateway.building_with(TwoFrontend(), "x", {"filename": "Twofile", **named}))


def _arg(key: str) -> str:
    head, colon, name = key.partition(":")
    return f"{head}{colon}{name.replace('-', '_')}" if colon else key


def _uncached(built: Built) -> list[str]:
    found = []
    for digest, op in built.ops():
        if built.definition.metadata[digest].ignore_cache:
            match op.kind:
                case o.ExecOp():
                    assert op.kind.meta is not None
                    found.append(op.kind.meta.args[-1])
                case o.FileOp():
                    found.append("file")
    return found


@pytest.mark.parametrize(
    ("no_cache", "found"),
    [
        (None, []),
        ("", ["base", "file", "app"]),
        ("base", ["base", "file"]),
        ("APP", ["app"]),
        ("app,base", ["base", "file", "app"]),
        ("other", []),
    ],
)
def test_no_cache_names_targets(
    gateway: FakeGateway, no_cache: str | None, found: list[str]
) -> None:
    given = {} if no_cache is None else {"no_cache": no_cache}
    assert _uncached(_build(gateway, **given)) == found


def _processes(built: Built) -> list[o.ExecOp]:
    return [op.kind for _, op in built.ops() if isinstance(op.kind, o.ExecOp)]


def test_size_of_shared_memory(gateway: FakeGateway) -> None:
    for process in _processes(_build(gateway, shm_size="1048576")):
        (mount,) = [m for m in process.mounts if m.dest == "/dev/shm"]
        assert mount.tmpfs_opt == o.TmpfsOpt(size=1048576)
    gateway.llb_caps -= {"exec.mount.tmpfs.size"}
    for process in _processes(_build(gateway, shm_size="1048576")):
        assert "/dev/shm" not in [m.dest for m in process.mounts]


def test_limits_of_resources(gateway: FakeGateway) -> None:
    built = _build(gateway, memory="1000000", cpushares="512")
    limits = [
        built.definition.metadata[digest].linux_resources
        for digest, op in built.ops()
        if isinstance(op.kind, o.ExecOp)
    ]
    assert limits == [o.LinuxResources(memory=1000000, cpu_shares=512)] * 2


def test_namespace_of_cache_mounts(gateway: FakeGateway) -> None:
    def ids(**options: str) -> list[str]:
        mounts = [m for p in _processes(_build(gateway, **options)) for m in p.mounts]
        return [m.cache_opt.id for m in mounts if m.cache_opt is not None]

    assert ids() == ["pip"]
    assert ids(build_arg__BUILDKIT_CACHE_MOUNT_NS="me") == ["me/pip"]


def _times(built: Built) -> list[int]:
    actions = [
        a.action for _, op in built.ops() if isinstance(op.kind, o.FileOp) for a in op.kind.actions
    ]
    return [a.timestamp for a in actions if isinstance(a, o.MkFile | o.MkDir)]


def _config(built: Built) -> Any:
    return json.loads(built.metadata["containerimage.config"])


def test_time_of_the_image(gateway: FakeGateway) -> None:
    assert set(_times(_build(gateway))) == {-1}
    assert "created" not in _config(_build(gateway))
    built = _build(gateway, build_arg__SOURCE_DATE_EPOCH=NOON)
    assert built.metadata["source.date.epoch"] == NOON.encode()
    assert _config(built)["created"] == "2023-11-14T22:13:20Z"
    assert set(_times(built)) == {int(NOON) * 10**9}


def test_time_of_a_named_context(gateway: FakeGateway) -> None:
    gateway.urls = {"https://x.org/a.txt": ""}
    gateway.modified = {"https://x.org/a.txt": 1600000000}
    options = {"context__src": "https://x.org/a.txt", "build_arg__SOURCE_DATE_EPOCH": "src"}
    assert _build(gateway, **options).metadata["source.date.epoch"] == b"1600000000"
    # A local folder has no time.
    built = _build(gateway, build_arg__SOURCE_DATE_EPOCH="context")
    assert "source.date.epoch" not in built.metadata
    with pytest.raises(InvalidEpochError, match="invalid SOURCE_DATE_EPOCH: noon"):
        _build(gateway, build_arg__SOURCE_DATE_EPOCH="noon")


def test_base_config_is_told(gateway: FakeGateway) -> None:
    base = json.loads(_build(gateway).metadata["containerimage.base.config"])
    assert base["config"]["Cmd"] == ["sh"]


def test_sbom(gateway: FakeGateway) -> None:
    gateway.images = {**gateway.images, "scan": {"Cmd": ["scan"]}}
    built = _build(gateway, attest__sbom="generator=scan,depth=2")
    ((key, (found,)),) = built.attestations.items()
    assert key == "linux/amd64"
    assert found.predicate_type == "https://spdx.dev/Document"
    definition = asyncio.run(found.ref.definition())  # type: ignore[union-attr]  # it has one
    assert definition is not None
    processes = [op.kind for op in definition.decoded().values() if isinstance(op.kind, o.ExecOp)]
    (scan,) = [p for p in processes if p.meta is not None and p.meta.args == ("scan",)]
    assert scan.meta is not None and "BUILDKIT_SCAN_depth=2" in scan.meta.env
    assert Digest.of(built.definition.ops[-2]) in definition.digests()


def test_unknown_capability(gateway: FakeGateway) -> None:
    from torana.frontends.kit.subrequests import UnsupportedFrontendCapError

    with pytest.raises(UnsupportedFrontendCapError):
        _build(gateway, **{"frontend.caps": "moby.buildkit.frontend.nonsense"})


def test_where_the_build_file_is(gateway: FakeGateway) -> None:
    gateway.contexts = {**gateway.contexts, "elsewhere": {"Twofile": "y"}}
    built = _build(gateway, dockerfilekey="elsewhere")
    (info,) = built.definition.source.infos if built.definition.source else ()
    assert info.data == b"y"


def test_steps_run_as_asked(gateway: FakeGateway) -> None:
    built = _build(
        gateway, hostname="box", add_hosts="db=10.0.0.1", ulimit="nofile=5:9", label__a="b",
        cgroup_parent="/x", force_network_mode="host",
    )  # fmt: skip
    for process in _processes(built):
        meta = process.meta
        assert meta is not None
        assert (meta.hostname, meta.cgroup_parent) == ("box", "/x")
        assert [h.host for h in meta.extra_hosts] == ["db"]
        assert [(u.name, u.soft, u.hard) for u in meta.ulimit] == [("nofile", 5, 9)]
        assert process.network is o.NetMode.HOST
    assert _config(built)["config"]["Labels"] == {"a": "b"}


def test_cache_imports_go_with_the_result(gateway: FakeGateway) -> None:
    _build(gateway, cache_from="example.org/cache")
    assert [i.attrs for i in gateway.solved[-1].cache_imports] == [{"ref": "example.org/cache"}]


def test_missing_file(gateway: FakeGateway) -> None:
    from torana.frontends.kit.context import MissingBuildFileError

    with pytest.raises((MissingBuildFileError, BuildFileError)):
        _build(gateway, dockerfilekey="nowhere")


def test_rights_and_devices_of_a_step(gateway: FakeGateway) -> None:
    class Rights(TwoFrontend):
        async def lower(self, tree: str, context: LowerContext) -> Image:
            return context.scratch().run(
                "x", security=SecurityMode.INSECURE, devices=[CDIDevice("acme/gpu=0")]
            )

    built = asyncio.run(gateway.building_with(Rights(), "x", {"filename": "Twofile"}))
    (process,) = _processes(built)
    assert process.security is SecurityMode.INSECURE
    assert [device.name for device in process.cdi_devices] == ["acme/gpu=0"]
