"""Layers that mean harm: each is refused, or stays inside its tree, and leaves nothing behind.

| layer | what becomes of it |
|---|---|
| absolute paths, `..` | taken from the root of the tree |
| paths through symbolic links | followed inside the tree |
| hard links to what is outside | refused: no such file in the tree |
| devices | made, as other engines do; what a step may open is the runtime's to say |
| the device that overlays take for a deletion | refused |
| files for directories and the other way round, the same path again | the last one counts |
| more entries than a file system is made for | refused |
| names, links and extended headers without end | refused |
| more data than there is room | refused by the disk, and the room is free again |
"""

from __future__ import annotations

import copy
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.registry.builds import Builds, layer_of
from tests.integration.registry.servers import FaultyRegistry, digest_of

from torana.core.errors import CorruptError, ToranaError
from torana.core.oci.platform import host_platform
from torana.core.snapshots import extract, mounts, namespace
from torana.plugins.registry import threads
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings

BASE = layer_of({"etc/name": "base", "kept": "k"})
ARCHITECTURE = host_platform().architecture
Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture(scope="module", autouse=True)
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


@pytest.fixture(params=["native", pytest.param("overlay", marks=pytest.mark.needs("root"))])
def snapshotter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def new_builds(tmp_path: Path, snapshotter: str) -> Iterator[Callable[[Path], Builds]]:
    made: list[Builds] = []

    def make(root: Path) -> Builds:
        access = RegistryAccess(RegistrySettings(), NoCredentials())
        made.append(Builds(root, access, snapshotter))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the store, which nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    before = (folder / "secret").stat()
    yield folder
    assert os.listdir(folder) == ["secret"]
    assert (folder / "secret").stat() == before
    assert (folder / "secret").read_text() == "secret"


@pytest.fixture
def builds(new_builds: Callable[[Path], Builds], tmp_path: Path, outside: Path) -> Builds:
    (tmp_path / "build").mkdir()
    return new_builds(tmp_path / "build")


def member(name: str, data: str = "", **fields: object) -> Member:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    made.size = len(data)
    return made, data.encode()


def placed(given: Member, outside: Path) -> Member:
    """Give a member with the place of the folder outside in its names."""
    made = copy.copy(given[0])
    made.name = made.name.replace("OUTSIDE", str(outside))
    made.linkname = made.linkname.replace("OUTSIDE", str(outside))
    return made, given[1]


def link(name: str, target: str) -> Member:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def symlink(name: str, target: str) -> Member:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def folder(name: str) -> Member:
    return member(name, type=tarfile.DIRTYPE, mode=0o755)


def device(name: str, major: int, minor: int) -> Member:
    return member(name, type=tarfile.CHRTYPE, devmajor=major, devminor=minor, mode=0o666)


def layer(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for made, data in members:
            archive.addfile(made, io.BytesIO(data))
    return out.getvalue()


async def tree(builds: Builds, registry: FaultyRegistry, *layers: bytes) -> dict[str, str]:
    """Unpack an image and give what it has: files with their text, others with their type."""
    registry.image("tag", list(layers), architecture=ARCHITECTURE)
    await builds.files(f"FROM {registry.host}/some/repo:tag\n")
    (record,) = [
        each
        for each in builds.worker.refs.records.all()
        if not any(each.id in other.parents for other in builds.worker.refs.records.all())
    ]
    found = {}
    with builds.worker.refs.snapshots.mount(record.id, readonly=True) as root:
        for path in sorted(root.rglob("*")):
            status = path.lstat()
            name = str(path.relative_to(root))
            if stat.S_ISREG(status.st_mode):
                found[name] = path.read_text()
            elif stat.S_ISLNK(status.st_mode):
                found[name] = f"-> {os.readlink(path)}"
            elif not stat.S_ISDIR(status.st_mode):
                found[name] = f"{stat.filemode(status.st_mode)[0]} {status.st_rdev}"
    return found


KEPT = {"etc/name": "base", "kept": "k"}


@pytest.mark.parametrize(
    ("members", "more"),
    [
        ([member("/abs", "x")], {"abs": "x"}),
        ([member("../../../up", "x")], {"up": "x"}),
        ([member("etc/../../../outside/secret", "x")], {"outside/secret": "x"}),
        (
            [symlink("out", "OUTSIDE"), folder("OUTSIDE"), member("out/secret", "x")],
            {"out": "-> OUTSIDE", "OUTSIDE/secret": "x"},
        ),
        (
            [symlink("etc/up", "../../../.."), member("etc/up/new", "x")],
            {"etc/up": "-> ../../../..", "new": "x"},
        ),
        ([symlink("f", "OUTSIDE/secret"), member("f", "x")], {"f": "x"}),
        ([symlink("f", "OUTSIDE/secret"), link("g", "f")],
         {"f": "-> OUTSIDE/secret", "g": "-> OUTSIDE/secret"}),
        ([member("same", "1"), member("same", "2"), member("./same", "3")], {"same": "3"}),
        ([member("d", "file"), folder("d"), member("d/in", "x")], {"d/in": "x"}),
        ([folder("d"), member("d/in", "x"), member("d", "file")], {"d": "file"}),
        ([folder("kept")], {"kept": None}),
        ([member("etc", "file")], {"etc": "file", "etc/name": None}),
        ([member("new", "x"), member(".wh.new")], {"new": "x"}),
        ([member(".wh...")], {}),
        ([member(".wh.."), member(".wh.")], {}),
        ([member("etc/.wh...", "x"), member("../.wh.kept")], {"kept": None}),
    ],
)  # fmt: skip
async def test_contained(
    builds: Builds,
    faulty: FaultyRegistry,
    outside: Path,
    members: list[Member],
    more: dict[str, str | None],
) -> None:
    members = [placed(each, outside) for each in members]
    wanted = {
        key.replace("OUTSIDE", str(outside)).lstrip("/"): value
        and value.replace("OUTSIDE", str(outside))
        for key, value in {**KEPT, **more}.items()
    }
    found = await tree(builds, faulty, BASE, layer(*members))
    assert found == {key: value for key, value in wanted.items() if value is not None}


@pytest.mark.needs("root")
async def test_devices(builds: Builds, faulty: FaultyRegistry) -> None:
    found = await tree(builds, faulty, BASE, layer(device("null", 1, 3)))
    assert found == {**KEPT, "null": f"c {os.makedev(1, 3)}"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([link("stolen", "../outside/secret")], "no such file or directory: `stolen`"),
        ([link("stolen", "OUTSIDE/secret")], "no such file or directory: `stolen`"),
        ([symlink("out", "OUTSIDE"), link("stolen", "out/secret")], "no such file"),
        ([link("stolen", "stolen")], "no such file"),
        ([link("stolen", "etc")], "links to a directory: `etc`"),
        ([member("kept/below", "x")], "not a directory: `kept/below`"),
        ([symlink("a", "b"), symlink("b", "a"), member("a/x")], "symbolic links: `a/x`"),
        ([member("/".join(["d"] * 5000))], "too long"),
        ([member("n" * 300)], "too long: `n"),
        ([symlink("s", "t" * 5000)], "too long: `s`"),
        ([member("x", pax_headers={"comment": "x" * (2 << 20)})], "extended header of"),
        ([member("x", type=b"V")], "unknown type"),
        ([device("gone", 0, 0)], "device 0:0: `gone`"),
        ([device("kept", 0, 0)], "device 0:0: `kept`"),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
async def test_refused(
    builds: Builds,
    faulty: FaultyRegistry,
    outside: Path,
    members: list[Member],
    message: str,
    is_first: bool,
) -> None:
    members = [placed(each, outside) for each in members]
    evil = layer(*members)
    if is_first and "directory: `" in message and "stolen" not in message:
        evil = layer(folder("etc"), member("kept", "k"), *members)
    with pytest.raises(CorruptError, match=message):
        await tree(builds, faulty, *([evil, BASE] if is_first else [BASE, evil]))
    assert builds.worker.upkeep.check() == []
    assert list(builds.worker.root.glob("snapshots/*/trash/*")) == []
    assert await tree(builds, faulty, BASE) == KEPT  # the store is as good as before


async def test_too_many_entries(
    builds: Builds, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need not even be different ones."""
    monkeypatch.setattr(extract, "MAX_ENTRIES", 1000)
    await tree(builds, faulty, layer(*[member("same", "x")] * 1000))
    with pytest.raises(CorruptError, match="more than 1000 entries"):
        await tree(builds, faulty, layer(*[member("same", "x")] * 1001))
    assert builds.worker.upkeep.check() == []


async def test_entries_are_counted_before_many_are_made(
    builds: Builds, faulty: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the link to nowhere would be the reason, which comes before there are too many."""
    monkeypatch.setattr(extract, "MAX_ENTRIES", 1000)
    monkeypatch.setattr(extract, "COUNTED_AT", 10)
    some, to_nowhere = [member("same", "x")] * 20, link("link", "nowhere")
    with pytest.raises(CorruptError, match="more than 1000 entries"):
        await tree(builds, faulty, layer(*some, to_nowhere, *some * 49))
    with pytest.raises(CorruptError, match="no such file"):
        await tree(builds, faulty, layer(*some, to_nowhere, *some * 48))


@pytest.mark.needs("root")
async def test_a_bomb_fills_the_disk_and_is_gone(
    new_builds: Callable[[Path], Builds],
    faulty: FaultyRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """256 MiB of zeros in a quarter of a megabyte, on a disk of 48 MiB."""
    # Threads of other tests may be from before this process had mounts of its own.
    monkeypatch.setattr(threads, "_pools", {})
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.mount("tmpfs", str(disk), "tmpfs", data="size=48m")
    try:
        builds = new_builds(disk)
        size = 256 << 20
        header = tarfile.TarInfo("bomb")
        header.size = size
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream:
            stream.write(header.tobuf())
            for _ in range(256):
                stream.write(bytes(1 << 20))
            stream.write(bytes(1024))
        bomb = packed.getvalue()
        faulty.image("tag", [BASE, bomb], [digest_of(BASE), digest_of(b"")],
                     architecture=ARCHITECTURE)  # fmt: skip
        with pytest.raises(ToranaError, match="no space left") as caught:
            await builds.files(f"FROM {faulty.host}/some/repo:tag\nRUN true\n")
        assert caught.value.sources  # it names the step
        assert builds.worker.upkeep.check() == []
        free = os.statvfs(disk)
        assert free.f_bavail * free.f_frsize > 40 << 20
        assert await tree(builds, faulty, BASE) == KEPT
        builds.close()
    finally:
        mounts.unmount(str(disk))
