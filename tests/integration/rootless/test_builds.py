"""The same builds by everybody, with each runtime."""

from __future__ import annotations

import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.integration.rootless.conftest import HAS_FUSE, Builder, with_fuse

from torana.gateway.testing.daemons import start_daemon

pytestmark = pytest.mark.needs(
    "root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"
)

RUNTIMES = ("crun", "runc", "bubblewrap")
EVERY = [(name, runtime) for name in ("root", "ranges", "single") for runtime in RUNTIMES]
SOME = [*(("ranges", runtime) for runtime in RUNTIMES), ("root", "crun"), ("single", "crun")]
CONTAINER = ("container", "crun")
ONE_ID = "no other users where there is one id"

BASE = """\
FROM scratch AS base
COPY --chmod=755 busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""
STEPS = """\
FROM base AS made
RUN mkdir -p /d/old /etc && touch /d/old/gone /d/stays && ln -s stays /d/link && chmod 4755 /d/stays
RUN test "$(id -u)$(id -g)" = 00 && test -w / && echo plain > /dev/null
RUN rm /d/old/gone && rm -r /d/old && mkdir /d/old && touch /d/old/new
RUN --mount=type=cache,target=/cache echo kept > /cache/file
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t touch /t/x && cat /cache/file
RUN --mount=type=secret,id=s test "$(cat /run/secrets/s)" = hidden
RUN --mount=type=bind,from=base,target=/b test -x /b/bin/busybox && ! touch /b/no
RUN --network=none test "$(ls /sys/class/net)" = lo && ifconfig lo | grep -q 127.0.0.1
RUN test "$(ls /proc | grep -c '^[0-9]')" -lt 8 && ! mount -t tmpfs x /d && ! chroot /nowhere
RUN ! echo 1 > /proc/sys/kernel/domainname && test -c /dev/null && head -c 1 /dev/zero > /d/zero
"""
RESULT = """\
FROM scratch
COPY --from=made /d /d
"""


@pytest.mark.parametrize(("builder", "runtime"), [*EVERY, CONTAINER], indirect=["builder"])
def test_steps(builder: Builder, runtime: str) -> None:
    (builder.context / "secret").write_text("hidden")
    done = builder.build(
        BASE + STEPS + RESULT,
        "--secret=id=s,src=context/secret",
        "--output=type=tar,dest=out.tar",
        TORANA_RUNTIME=runtime,
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(builder.folder / "out.tar") as tar:
        modes = {member.name.rstrip("/"): member.mode for member in tar if member.name != "."}
    assert set(modes) == {"d", "d/link", "d/old", "d/old/new", "d/stays", "d/zero"}
    assert modes["d/stays"] == 0o4755


USERS = """\
FROM base
RUN mkdir -p /etc && echo 'u:x:1000:1000::/home/u:/bin/sh' > /etc/passwd
RUN echo 'u:x:1000:' > /etc/group
RUN touch /other && chown 33:44 /other
USER u
WORKDIR /home/u
RUN test "$(id -u):$(id -g)" = 1000:1000 && test "$HOME" = /home/u && ! touch /no && ! cat /root/x
RUN echo mine > mine && test "$(stat -c %u:%g /other)" = 33:44
"""


@pytest.mark.differs(single=ONE_ID)
@pytest.mark.parametrize(("builder", "runtime"), [*SOME, CONTAINER], indirect=["builder"])
def test_users(builder: Builder, runtime: str) -> None:
    done = builder.build(BASE + USERS, "--output=type=tar,dest=out.tar", TORANA_RUNTIME=runtime)
    assert done.returncode == 0, done.stderr
    with tarfile.open(builder.folder / "out.tar") as tar:
        owners = {member.name: (member.uid, member.gid) for member in tar}
    assert owners["other"] == (33, 44)
    assert owners["home/u/mine"] == (1000, 1000)


@pytest.mark.needs("fuse-overlayfs", "unshare")
@pytest.mark.skipif(not HAS_FUSE, reason="the kernel has no FUSE")
@pytest.mark.parametrize(
    ("builder", "dockerfile"),
    [("ranges", BASE + STEPS + RESULT), ("ranges", BASE + USERS), ("single", BASE + STEPS)],
    indirect=["builder"],
    ids=["ranges-steps", "ranges-users", "single-steps"],
)
def test_fuse_overlayfs(builder: Builder, dockerfile: str) -> None:
    (builder.context / "secret").write_text("hidden")
    shown = with_fuse(builder)
    done = shown.build(
        dockerfile,
        "--secret=id=s,src=context/secret",
        "--output=type=tar,dest=out.tar",
        TORANA_SNAPSHOTTER="fuse-overlayfs",
    )
    assert done.returncode == 0, done.stderr
    found = shown.run("debug", "workers", TORANA_SNAPSHOTTER="fuse-overlayfs")
    assert "fuse-overlayfs (asked for; its start test passed)" in found.stdout, found.stderr


LAYERS = """\
FROM base AS left
RUN mkdir -p /d/old /e && echo a > /d/old/gone && echo b > /d/stays && ln -s stays /d/link
RUN ln /d/stays /d/hard && mkfifo /d/fifo && echo c > /d/plain
FROM left AS right
RUN rm -r /d/old && mkdir /d/old && echo new > /d/old/new && mv /d/plain /d/moved
RUN rm /d/link && mkdir /d/link && echo x > /d/link/in && rm -r /e && touch /e
RUN mkdir /passing && touch /passing/one && rm -r /passing && touch /d/old/deep
FROM left
COPY --link --chmod=700 tree /l/
COPY --link --from=right /d /copied
COPY --from=right /d /d2
RUN rm -r /l/sub /copied/old && echo z > /l/b && mkdir /copied/old
COPY --link --from=right /d/old /l/
RUN touch /l/new && rm /copied/moved && mv /copied/link /linked
"""


@pytest.mark.needs("fuse-overlayfs", "unshare")
@pytest.mark.skipif(not HAS_FUSE, reason="the kernel has no FUSE")
@pytest.mark.parametrize("builder", ["ranges", "single"], indirect=True)
def test_layers_of_fuse_overlayfs(builder: Builder) -> None:
    """They are those of the kernel's overlays, but for links and pipes that steps change."""
    (builder.context / "tree/sub").mkdir(parents=True)
    for name in ("sub/a", "b"):
        (builder.context / "tree" / name).write_text(name)
    found = []
    for snapshotter in ("overlay", "fuse-overlayfs"):
        done = with_fuse(builder).build(
            BASE + LAYERS,
            f"--output=type=oci,dest={snapshotter}.tar,rewrite-timestamp=true",
            SOURCE_DATE_EPOCH="1",
            TORANA_SNAPSHOTTER=snapshotter,
            TORANA_ROOT=str(builder.folder / snapshotter),
        )
        assert done.returncode == 0, done.stderr
        found.append(_diff_ids(builder.folder / f"{snapshotter}.tar"))
    assert len(found[0]) == 10
    assert found[1] == found[0]


def _diff_ids(image: Path) -> list[str]:
    with tarfile.open(image) as tar:

        def read(name: str) -> Any:
            file = tar.extractfile(name)
            assert file is not None
            return json.load(file)

        digest = read("index.json")["manifests"][0]["digest"]
        config = read(f"blobs/sha256/{digest.removeprefix('sha256:')}")["config"]["digest"]
        ids: list[str] = read(f"blobs/sha256/{config.removeprefix('sha256:')}")["rootfs"][
            "diff_ids"
        ]
    return ids


@pytest.mark.parametrize("builder", ["single"], indirect=True)
def test_one_id_says_what_fails(builder: Builder) -> None:
    done = builder.build(BASE + "USER 1000\nRUN true\n")
    assert "this user has one id only" in done.stderr
    assert "/etc/subuid has no line for it" in done.stderr
    assert done.returncode == 1
    assert "no such user in this user namespace: 1000:0" in done.stderr
    (builder.context / "tree").mkdir()
    done = builder.build(f"{BASE}COPY --chown=33:44 tree /made/\n")
    assert done.returncode == 1
    assert "ERROR: chown /made: invalid argument" in done.stderr


def test_workers(builder: Builder) -> None:
    done = builder.run("debug", "workers")
    assert done.returncode == 0, done.stderr
    found = dict(
        line.split(":", 1) for line in done.stdout.splitlines() if not line.startswith("\t")
    )
    user = {
        "root": "root",
        "ranges": "root in a user namespace of 65537 ids",
        "single": "root in a user namespace of one id: /etc/subuid has no line",
        "container": "user 0, root in a user namespace",
    }[builder.name]
    assert user in found["User"]
    assert "overlay (overlay mounts work)" in found["Snapshotter"]
    assert "crun (preferred; its start test passed)" in found["Runtime"]
    assert "host (asked for)" in found["Network"]


@pytest.mark.parametrize("builder", ["ranges", "single"], indirect=True)
def test_archives_of_root(builder: Builder) -> None:
    """What an ordinary user cannot make is left out of archives, and said."""
    with tarfile.open(builder.context / "base.tar", "w") as tar:
        device = tarfile.TarInfo("dev/null")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(device)
        folder = tarfile.TarInfo("home")
        folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o755, 33, 33
        tar.addfile(folder)
    dockerfile = "FROM scratch\nADD base.tar /\n"
    done = builder.build(dockerfile, "--output=type=tar,dest=out.tar")
    assert done.returncode == 0, done.stderr
    assert "devices of an archive cannot be kept, first: 'dev/null'" in done.stderr
    with tarfile.open(builder.folder / "out.tar") as tar:
        owners = {member.name: member.uid for member in tar}
    assert "dev/null" not in owners
    assert owners["home"] == (33 if builder.name == "ranges" else 0)


@pytest.mark.parametrize("builder", ["ranges", "single"], indirect=True)
def test_daemon_of_a_user(builder: Builder) -> None:
    daemon = start_daemon(
        builder.folder,
        name="d",
        prefix=builder.prefix,
        environment={"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(builder.folder)},
    )
    try:
        (builder.context / "Dockerfile").write_text(BASE + "RUN touch /made\n")
        output = "--output=type=tar,dest=out.tar"
        done = builder.run("--addr", daemon.address, "build", output, "context")
        assert done.returncode == 0, done.stderr
        with tarfile.open(builder.folder / "out.tar") as tar:
            assert "made" in tar.getnames()
    finally:
        assert daemon.stop() == 0
