"""`--ssh` of the real buildctl: agents, keys and sockets of the client, as steps see them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torana.gateway.testing.daemons import RunningDaemon

pytestmark = [
    pytest.mark.needs("root", "busybox", "ssh-agent", "ssh-add", "ssh-keygen"),
    # No Debian package has it, so CI does not promise it.
    pytest.mark.skipif(shutil.which("buildctl") is None, reason="needs buildctl"),
]

BASE = """\
FROM scratch AS base
COPY tree /
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
"""


@pytest.fixture
def context(folder: Path) -> Path:
    """A context with busybox, and with ssh-add and what that needs of this machine."""
    tree = folder / "context/tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", tree / "bin/busybox")
    program = shutil.which("ssh-add") or ""
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for path in (program, *re.findall(r"(/\S+) \(", linked)):
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (tree / "etc").mkdir(exist_ok=True)
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    return tree.parent


@pytest.fixture
def keys(folder: Path) -> dict[str, Path]:
    made = {name: folder / name for name in ("one", "two")}
    for name, path in made.items():
        line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"key-{name}", "-f", str(path)]
        subprocess.run(line, check=True)
    return made


@pytest.fixture
def agent(folder: Path, keys: dict[str, Path]) -> Iterator[dict[str, str]]:
    """An agent that has key `one`; gives the environment of its clients."""
    address = folder / "agent"
    with subprocess.Popen(
        ["ssh-agent", "-D", "-a", address], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        environment = {**os.environ, "SSH_AUTH_SOCK": str(address)}
        subprocess.run(["ssh-add", "-q", keys["one"]], env=environment, check=True)
        yield environment
        process.send_signal(signal.SIGTERM)


@pytest.fixture
def build(
    context: Path, agent: dict[str, str], start: Callable[..., RunningDaemon]
) -> Callable[..., str]:
    daemon = start()

    def build_one(dockerfile: str, *arguments: str, fails: bool = False) -> str:
        (context / "Dockerfile").write_text(BASE + dockerfile)
        line = ["buildctl", "--addr", daemon.address, "build", "--progress=plain"]
        line += ["--frontend=dockerfile.v0", f"--local=context={context}"]
        line += [f"--local=dockerfile={context}", *arguments]
        done = subprocess.run(
            line, env=agent, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr

    return build_one


def test_agents_and_keys(build: Callable[..., str], keys: dict[str, Path]) -> None:
    log = build(
        "RUN --mount=type=ssh ssh-add -l\n"
        "RUN --mount=type=ssh,id=two,target=/second SSH_AUTH_SOCK=/second ssh-add -l\n"
        "RUN --mount=type=ssh --mount=type=ssh,id=two,target=/second,uid=5,gid=6,mode=0660 "
        'test "$(stat -c %u:%g:%a /second) $(stat -c %u:%g:%a $SSH_AUTH_SOCK)" = '
        '"5:6:660 0:0:600"\n'
        "RUN test ! -e /run/buildkit && test ! -e /second\n",
        "--ssh=default",
        f"--ssh=two={keys['two']}",
    )
    wanted = [fingerprint(path) for path in keys.values()]
    assert re.findall(r"SHA256:\S+", log) == wanted


def fingerprint(key: Path) -> str:
    line = ["ssh-keygen", "-l", "-f", str(key)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[1]


def test_an_agent_only_lists_and_signs(build: Callable[..., str]) -> None:
    build("RUN --mount=type=ssh ! ssh-add -D && ssh-add -l | grep key-one\n", "--ssh=default")


def test_what_is_not_forwarded(build: Callable[..., str]) -> None:
    build('RUN --mount=type=ssh,id=none test ! -e "$SSH_AUTH_SOCK"\n', "--ssh=default")
    step = "RUN --mount=type=ssh,id=none,required true\n"
    for arguments in ((), ("--ssh=default",)):
        log = build(step, *arguments, fails=True)
        assert 'no SSH key "none" forwarded from the client' in log


def test_raw_sockets(build: Callable[..., str], agent: dict[str, str]) -> None:
    """Whatever is said to a raw socket arrives: this one takes orders."""
    build(
        "RUN --mount=type=ssh,id=raw,target=/raw export SSH_AUTH_SOCK=/raw; "
        "ssh-add -l | grep key-one && ssh-add -D && ! ssh-add -l | grep key-one\n",
        f"--ssh=raw={agent['SSH_AUTH_SOCK']},raw=true",
    )
    left = subprocess.run(["ssh-add", "-l"], env=agent, capture_output=True, check=False)
    assert b"no identities" in left.stdout
