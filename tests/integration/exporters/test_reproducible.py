"""The same build on other roots and snapshotters gives the same image, digest for digest."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.registry.builds import Builds, Layout

from torana.core.snapshots import namespace
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.credentials import NoCredentials
from torana.plugins.registry.settings import RegistrySettings

pytestmark = pytest.mark.needs("root", "busybox")

EPOCH = 1_700_000_000
STEPS = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
WORKDIR /area/deep
COPY --chmod=640 tree /tree/
RUN echo new > /area/new && mkdir -p /made/by/run && echo x > /made/by/run/x
RUN rm /tree/a && rm -rf /tree/d && mkdir /tree/d && echo other > /tree/d/inside
RUN ln /tree/b /tree/link && ln -s b /tree/sym && chmod 700 /made/by && mv /tree/sub /tree/moved
RUN touch /made/by/run/x && chown 7:8 /area/new
RUN true
FROM base AS side
RUN echo side > /side && rm -rf /made
FROM base
COPY --link --from=side /side /linked/
COPY --from=side /side /tree/d/../copied/
ADD packed.tar /unpacked/
LABEL built=yes
"""


@pytest.fixture(scope="module", autouse=True)
def private_mounts() -> None:
    if os.geteuid() == 0:
        namespace.enter()


@pytest.fixture
def new_builds(tmp_path: Path) -> Iterator[Callable[[str], Builds]]:
    """Makes stores; each has a context of its own, with other times."""
    made: list[Builds] = []

    def make(snapshotter: str) -> Builds:
        root = tmp_path / f"build{len(made)}"
        fill(root / "context", mtime=EPOCH + 1000 * len(made))
        access = RegistryAccess(RegistrySettings(), NoCredentials())
        made.append(Builds(root, access, snapshotter))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fill(context: Path, *, mtime: int) -> None:
    for name in ("a", "b", "d/inside", "d/gone", "sub/s", "ü"):
        path = context / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, context / "busybox")
    with tarfile.open(context / "packed.tar", "w") as archive:
        member = tarfile.TarInfo("in/side")
        member.size, member.mtime = 1, 5
        archive.addfile(member, io.BytesIO(b"x"))
    for path in [*context.rglob("*")]:
        os.utime(path, (mtime, mtime))


def layers(made: Layout) -> list[list[tuple[Any, ...]]]:
    """Give the entries of each layer, to see at once what differs."""
    (entry,) = made.entries
    found = []
    for descriptor in made.document(entry)["layers"]:
        with tarfile.open(fileobj=io.BytesIO(made.blob(descriptor))) as archive:
            found.append(
                [
                    (m.name, m.type, oct(m.mode), m.mtime, m.uid, m.gid, m.size, m.linkname)
                    for m in archive
                ]
            )
    return found


async def test_two_roots_and_two_snapshotters(new_builds: Callable[[str], Builds]) -> None:
    attrs = {"rewrite-timestamp": "true"}
    options = {"build-arg:SOURCE_DATE_EPOCH": str(EPOCH)}
    made = [
        await new_builds(name).layout(STEPS, attrs, **options)
        for name in ("native", "overlay", "overlay")
    ]
    first, *others = made
    for other in others:
        assert layers(other) == layers(first)
        assert other.entries == first.entries
    manifest = first.document(first.entries[0])
    config = first.document(manifest["config"])
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert {entry["created"] for entry in config["history"]} == {"2023-11-14T22:13:20Z"}
    names = [entry[0] for entries in layers(first) for entry in entries]
    assert "tree/.wh.a" in names
    assert "tree/d/.wh.gone" in names
    assert not any(name.endswith(".wh..wh..opq") for name in names)
    # An epoch in the future changes no time: every layer is what it is without.
    assert max(entry[3] for entries in layers(first) for entry in entries) == EPOCH


@pytest.mark.parametrize(
    "attrs",
    [
        {"compression": "zstd"},
        {"compression": "zstd", "compression-level": "19"},
        {"compression": "gzip", "compression-level": "9"},
        {"compression": "uncompressed"},
        {"compression": "estargz"},
        {"oci-mediatypes": "false"},
    ],
)
async def test_every_form_is_reproducible(
    new_builds: Callable[[str], Builds], attrs: dict[str, str]
) -> None:
    attrs = {"rewrite-timestamp": "true", **attrs}
    options = {"build-arg:SOURCE_DATE_EPOCH": str(EPOCH)}
    native, overlay = [
        await new_builds(name).layout(STEPS, attrs, **options) for name in ("native", "overlay")
    ]
    assert native.entries == overlay.entries


async def test_merges_and_diffs_keep_their_layers(new_builds: Callable[[str], Builds]) -> None:
    """What `COPY --link` merges comes with the layers that its parts had by themselves."""
    for snapshotter in ("native", "overlay"):
        builds = new_builds(snapshotter)
        parts = "FROM scratch AS one\nCOPY tree/a /a\nFROM scratch AS two\nCOPY tree/b /d/b\n"
        alone = [await builds.layout(parts, {}, target=target) for target in ("one", "two")]
        merged = await builds.layout(
            f"{parts}FROM one\nCOPY --link --from=two / /\nCOPY --link --from=two /d/b /c\n", {}
        )

        def digests(made: Layout) -> list[str]:
            manifest = made.document(made.entries[0])
            return [layer["digest"] for layer in manifest["layers"]]

        assert digests(merged)[0] == digests(alone[0])[0]
        assert len(digests(merged)) == 3
        # Changing what is below does not change what was put on top.
        moved = await builds.layout(
            f"{parts}FROM two\nCOPY --link --from=two / /\nCOPY --link --from=two /d/b /c\n", {}
        )
        assert digests(moved)[1:] == digests(merged)[1:]
        assert digests(moved)[0] == digests(alone[1])[0]
