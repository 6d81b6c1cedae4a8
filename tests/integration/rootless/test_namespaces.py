"""Where builds find themselves: in RootlessKit's namespaces, and where there can be none."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.engines.traces import wait_for
from tests.integration.rootless.conftest import Builder

import torana
from torana.gateway.testing.daemons import start_daemon

pytestmark = pytest.mark.needs(
    "root", "crun", "busybox", "newuidmap", "setpriv", "useradd", "unshare"
)

DOCKERFILE = """\
FROM scratch
COPY --chmod=755 busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN echo made > /made && chown 33:44 /made
"""
# A user's own namespaces, in which it is root; they may have no others within.
NO_MORE = """
echo 0 > /proc/sys/user/max_user_namespaces
exec setpriv --inh-caps -sys_admin --bounding-set -sys_admin -- "$@"
"""


# An interpreter that everybody can get to, wherever this one is.
SHOWN = """
mkdir -p {folder}/python && mount --bind {python} {folder}/python && exec "$@"
"""


def _shown(builder: Builder) -> Builder:
    """Let programs that other programs start for the builder reach the interpreter."""
    script = SHOWN.format(folder=builder.folder, python=sys.base_prefix)
    return replace(builder, prefix=("unshare", "-m", "sh", "-c", script, "sh", *builder.prefix))


def _environment(builder: Builder) -> dict[str, str]:
    """Give what a login gives: the store is where the user's belongs."""
    python = builder.folder / "python"
    return {
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "HOME": str(builder.folder),
        "PYTHONHOME": str(python),
        "LD_LIBRARY_PATH": str(python / "lib"),
        "PYTHONPATH": os.pathsep.join([str(Path(torana.__file__).parents[1]), *sys.path]),
        "TORANA_GC": "off",
        "TORANA_NETWORK": "host",
    }


def _run(
    builder: Builder, prefix: tuple[str, ...], *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    python = builder.folder / "python/bin" / f"python3.{sys.version_info.minor}"
    return subprocess.run(
        [*builder.prefix, *prefix, python, "-B", "-m", "torana", *arguments],
        env={**_environment(builder), **environment},
        cwd=builder.folder,
        capture_output=True,
        text=True,
    )


@pytest.mark.needs("rootlesskit")
@pytest.mark.parametrize("builder", ["ranges"], indirect=True)
def test_rootlesskit(builder: Builder) -> None:
    builder = _shown(builder)
    (builder.context / "Dockerfile").write_text(DOCKERFILE)
    output = "--output=type=tar,dest=out.tar"
    done = _run(builder, ("rootlesskit",), "build", "--progress=plain", output, "context")
    assert done.returncode == 0, done.stderr
    with tarfile.open(builder.folder / "out.tar") as tar:
        made = tar.getmember("made")
    assert (made.uid, made.gid) == (33, 44)
    assert (builder.folder / ".local/share/torana").is_dir()
    # One store, with RootlessKit and without.
    again = _run(builder, (), "build", "--progress=plain", output, "context", TORANA_NO_MEMO="1")
    assert again.returncode == 0, again.stderr
    assert "CACHED" in again.stderr
    shown = _run(builder, ("rootlesskit",), "debug", "workers").stdout
    assert "root in a user namespace of 65537 ids" in shown


@pytest.mark.needs("rootlesskit")
@pytest.mark.parametrize("builder", ["ranges"], indirect=True)
def test_daemon_in_rootlesskit(builder: Builder) -> None:
    builder = _shown(builder)
    (builder.context / "Dockerfile").write_text(DOCKERFILE)
    python = builder.folder / "python/bin" / f"python3.{sys.version_info.minor}"
    code = "from torana.cli.daemon import main; main()"
    log = builder.folder / "d.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*builder.prefix, "rootlesskit", python, "-c", code],
            env={**_environment(builder), "XDG_RUNTIME_DIR": str(builder.folder)},
            stderr=output,
        )
    try:
        socket = builder.folder / "torana/toranad.sock"
        wait_for(lambda: socket.exists() or process.poll() is not None, "the daemon to listen")
        assert process.poll() is None, log.read_text()
        output_option = "--output=type=tar,dest=out.tar"
        done = _run(builder, (), "--addr", f"unix://{socket}", "build", output_option, "context")
        assert done.returncode == 0, done.stderr
        with tarfile.open(builder.folder / "out.tar") as tar:
            assert tar.getmember("made").uid == 33
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


@pytest.mark.parametrize("builder", ["single"], indirect=True)
def test_no_namespaces_are_allowed(builder: Builder) -> None:
    builder = _shown(builder)
    (builder.context / "Dockerfile").write_text(DOCKERFILE)
    prefix = ("unshare", "-Ur", "sh", "-c", NO_MORE, "sh")
    done = _run(builder, prefix, "build", "context", TORANA_ROOT=str(builder.folder / "store"))
    assert done.returncode == 1
    assert "cannot make a private namespace" in done.stderr
    assert "allow user namespaces: `sysctl user.max_user_namespaces=10000`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("builder", ["ranges"], indirect=True)
def test_workers_of_a_daemon(builder: Builder) -> None:
    """What a daemon says of its steps is what it says where it runs."""
    plain, builder = builder, _shown(builder)
    daemon = start_daemon(
        builder.folder,
        prefix=plain.prefix,
        environment={"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(builder.folder)},
    )
    try:
        there = _run(builder, (), "--addr", daemon.address, "debug", "workers")
        here = _run(builder, (), "debug", "workers", TORANA_NETWORK="")
        assert there.returncode == here.returncode == 0, there.stderr
        lines = here.stdout.splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith("User:"))
        assert "\n".join(lines[start:]) in there.stdout
        (network,) = (line.split()[1] for line in lines if line.startswith("Network:"))
        assert f"org.mobyproject.buildkit.worker.network={network}\n" in there.stdout
        assert "torana.worker." not in there.stdout
    finally:
        assert daemon.stop() == 0
