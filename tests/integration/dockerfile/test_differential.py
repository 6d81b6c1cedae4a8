"""Generated Dockerfiles built by Torana and by Docker's own BuildKit: same files, same settings.

`TORANA_DIFFERENTIAL` sets how many are tried; the same number tries the same ones.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.integration.dockerfile.builder import BASE, Builder

pytestmark = pytest.mark.needs("root", "busybox", "dockerd")

EXAMPLES = int(os.environ.get("TORANA_DIFFERENTIAL", "6"))
SETTINGS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels",
    "StopSignal", "Healthcheck", "OnBuild", "Shell",
)  # fmt: skip
#: Mount points, which Docker 20.10 leaves behind; and the root, which not every export names.
LEFT_BEHIND = {
    "",
    ".",
    "dev",
    "etc",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
    "ctx",
    "t",
    "m",
}
FILES = {
    "file": "text\n",
    "script.sh": "#!/bin/sh\necho hi\n",
    "dir/one": "1\n",
    "dir/sub/two": "2\n",
    "dir/sub/x.md": "no\n",
    "a b": "blank\n",
}

WORDS = st.sampled_from(("x", "$A", "${B:-other}", '"q r"', "a\\ b", "${A:+set}", "'$A'", "$NONE"))
PLACES = st.sampled_from(("/to/", "here", "./rel/x", "/abs", "$A/", "."))
SOURCES = st.sampled_from(("file", "dir", "dir/sub", "*.sh", "dir/*", "./script.sh", "dir/./sub"))
OWNERS = st.sampled_from(("", "--chown=7 ", "--chown=7:8 ", "--chown=$U:9 "))
MODES = st.sampled_from(("", "--chmod=0600 ", "--chmod=755 "))


def _copy(word: str, owner: str, source: str, place: str) -> str:
    return f"{word} {owner}{source} {place}"


INSTRUCTIONS = st.one_of(
    st.builds("ENV {}={}".format, st.sampled_from("ABC"), WORDS),
    st.builds("ENV D {} tail".format, WORDS),
    st.builds("ARG {}={}".format, st.sampled_from(("B", "E")), WORDS),
    st.builds("LABEL {}={}".format, st.sampled_from(("l", '"m n"')), WORDS),
    st.builds("WORKDIR {}".format, st.sampled_from(("/w", "sub", "../up", "$A", "a b"))),
    st.builds(_copy, st.sampled_from(("COPY", "ADD")), OWNERS, SOURCES, PLACES),
    st.builds("COPY --from=other /made {}".format, PLACES),
    st.builds('COPY {}["a b", "{}"]'.format, MODES, st.sampled_from(("/blank", "/"))),
    st.just("ADD archive.tar.gz /unpacked/"),
    st.builds("RUN echo {} >> /log && pwd >> /log && id -u >> /log".format, WORDS),
    st.builds('RUN ["/bin/sh", "-c", "echo {} > /array"]'.format, st.sampled_from(("x", "$A"))),
    st.just("RUN --mount=type=bind,target=/ctx cp /ctx/file /from-mount"),
    st.just("RUN --mount=type=tmpfs,target=/t touch /t/gone && ls /t >> /log"),
    st.just("RUN --mount=type=bind,from=other,source=/made,target=/m cp /m/file /from-stage"),
    st.just("RUN ln -s /log /link && mkdir -m 700 -p /deep/er && touch /deep/er/x && rm -f /array"),
    st.just("USER 0:0"),  # a name or lone number needs /etc/passwd, in 20.10
    st.builds("EXPOSE {}".format, st.sampled_from(("80", "53/udp", "8000-8002"))),
    st.builds("VOLUME {}".format, st.sampled_from(("/v", '["/v", "/w w"]'))),
    st.builds("CMD {}".format, st.sampled_from(("a $A", '["a", "b"]'))),
    st.builds("ENTRYPOINT {}".format, st.sampled_from(("e f", '["e"]', "[]"))),
    st.just('SHELL ["/bin/sh", "-ec"]'),
    st.builds("STOPSIGNAL {}".format, st.sampled_from(("9", "SIGTERM"))),
    st.builds(
        "HEALTHCHECK {}".format,
        st.sampled_from(("NONE", "--interval=5s --retries=2 CMD x y", 'CMD ["x"]')),
    ),
    st.just("ONBUILD RUN true"),
)
DOCKERFILES = st.lists(INSTRUCTIONS, min_size=2, max_size=9).map(
    lambda lines: "\n".join(
        [
            "ARG G=global",
            BASE.rstrip(),
            "FROM base AS other",
            "COPY dir /made",
            "RUN cp /bin/busybox /made/file && echo $G > /made/g",
            "FROM base",
            "ARG G",
            "ENV A=/value U=5",
            *lines,
            "",
        ]
    )
)


class Docker:
    """A daemon of our own, without network."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "docker.sock"
        self._log = open(folder / "dockerd.log", "wb")
        self._daemon = subprocess.Popen(
            ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
             "--data-root", folder / "data", "--exec-root", folder / "exec",
             "-p", folder / "pid", "-H", f"unix://{self._socket}"],
            stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def wait(self) -> None:
        until = time.monotonic() + 60
        while self.run("version").returncode:
            assert self._daemon.poll() is None, "dockerd ended"
            assert time.monotonic() < until, "dockerd does not answer"
            time.sleep(0.3)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["/usr/bin/docker", "-H", f"unix://{self._socket}", *arguments],
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            timeout=120,
        )

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(60)
        self._log.close()


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    folder = Path(tempfile.mkdtemp(prefix="dk-"))  # containerd's sockets need a short name
    daemon = Docker(folder)
    try:
        daemon.wait()
        yield daemon
    finally:
        daemon.close()
        subprocess.run(["rm", "-rf", folder], capture_output=True)  # it may still be mounted


def _entries(data: bytes) -> dict[str, tuple[Any, ...]]:
    """Give what a flat tar of a file system says of each path, but times."""
    found: dict[str, tuple[Any, ...]] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            content: Any = member.linkname
            if member.isreg() or member.islnk():
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
            kind = tarfile.REGTYPE if member.islnk() else member.type
            name = member.name.removeprefix("./").strip("/")
            found[name] = (kind, member.mode & 0o7777, member.uid, member.gid, content)
    return {name: entry for name, entry in found.items() if name not in LEFT_BEHIND}


def _torana(builder: Builder, text: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    files, image = builder.folder / "files.tar", builder.folder / "image.tar"
    builder.write("Dockerfile", text)
    result = builder.command(
        "build",
        "--network=none",
        "-t",
        "x",
        "-o",
        f"type=tar,dest={files}",
        "-o",
        f"type=docker,dest={image}",
        ".",
    )
    if result.returncode:
        print(result.stderr)
        return None
    with tarfile.open(image) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]  # it is there
        config = json.load(archive.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]  # it is there
    return _entries(files.read_bytes()), config["config"]


def _docker(docker: Docker, builder: Builder) -> tuple[dict[str, Any], dict[str, Any]] | None:
    target = builder.folder / "docker.tar"
    context = builder.context
    build = ("build", "--network=none", "-q")
    result = docker.run(*build, "-o", f"type=tar,dest={target}", context)
    if result.returncode:
        print(result.stderr.decode())
        return None
    assert not docker.run(*build, "-t", "x", context).returncode
    [inspected] = json.loads(docker.run("inspect", "x").stdout)
    return _entries(target.read_bytes()), inspected["Config"]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in SETTINGS if config.get(name)}


@pytest.fixture
def build_both(docker: Docker, builder: Builder) -> Callable[[str], tuple[Any, Any]]:
    for name, text in FILES.items():
        builder.write(name, text, 0o755 if name.endswith(".sh") else 0o644)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        entry = tarfile.TarInfo("inner/file")
        entry.size, entry.uid = 1, 33
        archive.addfile(entry, io.BytesIO(b"x"))
    builder.write("archive.tar.gz", data.getvalue())

    def build(text: str) -> tuple[Any, Any]:
        return _torana(builder, text), _docker(docker, builder)

    return build


@given(DOCKERFILES)
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_same_files_and_settings(build_both: Callable[[str], tuple[Any, Any]], text: str) -> None:
    ours, theirs = build_both(text)
    assert (ours is None) == (theirs is None), text
    if ours is not None and theirs is not None:
        assert ours[0] == theirs[0], text
        assert _settings(ours[1]) == _settings(theirs[1]), text
