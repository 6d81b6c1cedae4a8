"""The command line as a user runs it: real builds in a store of their own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.needs("root", "busybox")

BUSYBOX = Path("/bin/busybox")


class Project:
    """A context folder and a store."""

    def __init__(self, folder: Path) -> None:
        self.context = folder / "context"
        self.context.mkdir()
        self.store = folder / "store"
        self.folder = folder

    def write(self, name: str, text: str) -> None:
        (self.context / name).write_text(text)

    def dockerfile(self, text: str) -> None:
        self.write("Dockerfile", text)
        target = self.context / "busybox"
        if not target.exists():
            target.write_bytes(BUSYBOX.read_bytes())
            target.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TORANA_")}
        return {**kept, "TORANA_ROOT": str(self.store), "TORANA_NO_MEMO": "1", **more}

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "torana", *arguments],
            cwd=self.context,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "torana", *arguments],
            cwd=self.context,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


SHELL = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


def steps(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Give the last word on each vertex by its name."""
    names: dict[str, str] = {}
    last: dict[str, str] = {}
    for line in result.stderr.splitlines():
        number, _, rest = line.partition(" ")
        if number.startswith("#"):
            names.setdefault(number, rest)
            last[number] = rest
    return {names[number]: rest for number, rest in last.items()}


def is_cached(result: subprocess.CompletedProcess[str], part: str) -> bool:
    [state] = [state for name, state in steps(result).items() if part in name]
    return state == "CACHED"


def test_scratch_image_as_oci(project: Project) -> None:
    project.dockerfile('FROM scratch\nCOPY busybox /bin/sh\nCMD ["/bin/sh"]\n')
    result = project.run("build", "-t", "hello", "-o", "type=oci,dest=../out.tar", ".")
    assert result.returncode == 0, result.stderr
    with tarfile.open(project.folder / "out.tar") as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]  # it is there
        digest = index["manifests"][0]["digest"].replace(":", "/")
        manifest = json.load(archive.extractfile(f"blobs/{digest}"))  # type: ignore[arg-type]  # it is there
    assert len(manifest["layers"]) == 1
    assert index["manifests"][0]["annotations"]["io.containerd.image.name"].endswith("hello:latest")
    assert digest.replace("/", ":") in result.stderr


def test_same_build_twice_gives_the_same_digest(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox /bin/sh\nWORKDIR /x\n")
    digests = []
    for number in (1, 2):
        store = str(project.folder / f"store-{number}")
        result = project.run(
            "build",
            "-q",
            "-t",
            "x",
            "-o",
            "type=image,rewrite-timestamp=true",
            ".",
            TORANA_ROOT=store,
            SOURCE_DATE_EPOCH="1700000000",
        )
        assert result.returncode == 0, result.stderr
        digests.append(result.stdout)
    assert digests[0] == digests[1] != ""


@pytest.mark.needs("runc")
def test_second_build_is_cached_and_only_what_depends_runs_again(project: Project) -> None:
    project.write("a", "1")
    project.write("b", "1")
    project.dockerfile(
        SHELL + "COPY a /a\nRUN cat /a > /made\nFROM base AS other\nCOPY b /b\nRUN cat /b > /made\n"
        "FROM base\nCOPY --from=0 /bin/busybox /x\nCOPY --from=other /made /made\n"
    )
    first = project.run("build", "-o", "../out", ".")
    assert first.returncode == 0, first.stderr
    assert (project.folder / "out" / "made").read_text() == "1"
    os.utime(project.context / "b")
    second = project.run("build", ".")
    assert is_cached(second, "RUN cat /b")
    project.write("b", "2")
    third = project.run("build", "-o", "../out", ".")
    assert is_cached(third, "--install")
    assert not is_cached(third, "RUN cat /b")
    assert (project.folder / "out" / "made").read_text() == "2"


@pytest.mark.needs("runc")
def test_independent_stages_run_at_the_same_time(project: Project) -> None:
    project.dockerfile(
        SHELL
        + "FROM base AS one\nRUN sleep 2; touch /one\nFROM base AS two\nRUN sleep 2; touch /two\n"
        "FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\n"
    )
    assert project.run("build", "--target", "base", ".").returncode == 0
    result = project.run("build", "--progress", "rawjson", ".")
    assert result.returncode == 0, result.stderr
    times: dict[str, tuple[str, str]] = {}
    for line in result.stderr.splitlines():
        if not line.startswith("{"):
            continue
        for vertex in json.loads(line).get("vertexes", ()):
            if "sleep 2" in vertex["name"] and "completed" in vertex:
                times[vertex["name"]] = vertex["started"], vertex["completed"]
    (start1, end1), (start2, end2) = times.values()
    assert start1 < end2 and start2 < end1


@pytest.mark.needs("runc")
def test_failing_step_shows_its_line_and_output(project: Project) -> None:
    project.dockerfile(SHELL + "RUN echo about to fail; exit 3\n")
    result = project.run("build", ".")
    assert result.returncode == 1
    assert "   4 | >>> RUN echo about to fail; exit 3" in result.stderr
    assert "exit code: 3" in result.stderr
    assert "hint: " in result.stderr
    assert result.stderr.count("about to fail\n") >= 2  # as it ran, and with the error
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--no-such-flag"],
        ["build", "nowhere"],
        ["build", "-f", "nothing", "."],
        ["build", "-o", "type=oci,dest", "."],
        ["build", "--local", "x", "."],
        ["nonsense"],
    ],
)
def test_wrong_usage_exits_with_2(project: Project, arguments: Sequence[str]) -> None:
    project.dockerfile("FROM scratch\n")
    result = project.run(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nRUNN x\n", "unknown instruction: RUNN"),
        ("FROM 127.0.0.1:1/nowhere\n", "connection refused"),
        ("", "empty"),
        ("FROM scratch\nCOPY missing /\n", "missing"),
    ],
)
def test_wrong_build_file_exits_with_1(project: Project, text: str, message: str) -> None:
    project.dockerfile(text)
    result = project.run("build", ".")
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.needs("runc")
def test_interrupt_leaves_nothing(project: Project) -> None:
    sleep = f"sleep 1234.{os.getpid()}"
    project.dockerfile(SHELL + f"RUN {sleep}\n")
    process = project.start("build", ".")
    _wait_for(sleep)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not _is_running(sleep)
    assert str(project.store) not in Path("/proc/self/mounts").read_text()
    assert project.run("debug", "check-store").returncode == 0


@pytest.mark.needs("runc")
def test_kill_at_any_moment_leaves_a_store_that_works(project: Project) -> None:
    sleep = f"sleep 4321.{os.getpid()}"
    for number in range(10):
        project.dockerfile(SHELL + f"RUN echo {number} > /x; sleep 0.3\nRUN {sleep}\n")
        process = project.start("build", ".")
        time.sleep(0.15 * number)
        process.kill()
        process.wait()
        assert str(project.store) not in Path("/proc/self/mounts").read_text()
    deadline = time.monotonic() + 10
    while _is_running(sleep) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_running(sleep)
    project.dockerfile(SHELL + "RUN echo done > /x\n")
    result = project.run("build", "-o", "../out", ".")
    assert result.returncode == 0, result.stderr
    check = project.run("debug", "check-store")
    assert check.returncode == 0, check.stdout


def test_memo_answers_only_when_nothing_changed(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox a /\n")
    project.write("a", "1")
    time.sleep(0.1)
    environment = {**project.environment()}
    del environment["TORANA_NO_MEMO"]

    def build() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "torana", "build", "-t", "x", "."],
            cwd=project.context, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    assert build().returncode == 0
    again = build()
    assert again.returncode == 0
    assert "asyncio" not in again.stderr, "answered without the engine"
    assert "CACHED" in again.stderr
    project.write("a", "2")
    changed = build()
    assert "asyncio" in changed.stderr
    assert "grpc" not in changed.stderr


def test_file_index_is_used_unless_it_is_turned_off(project: Project) -> None:
    """The index is made to lie: who believes it finds the copy's input changed."""
    project.dockerfile("FROM scratch\nCOPY file /\n")
    project.write("file", "text")
    assert project.run("build", "--progress=plain", ".").returncode == 0
    with sqlite3.connect(project.store / "torana.db") as database:
        for folder, value in database.execute("SELECT folder, value FROM file_states").fetchall():
            lie = value.replace(b"sha256:", b"sha256_")
            assert lie != value
            database.execute("UPDATE file_states SET value = ? WHERE folder = ?", (lie, folder))
    for arguments, more in ((["--no-file-index"], {}), ([], {"TORANA_NO_FILE_INDEX": "1"})):
        done = project.run("build", "--progress=plain", *arguments, ".", **more)
        assert "CACHED" in done.stderr
    assert "CACHED" not in project.run("build", "--progress=plain", ".").stderr
    help_text = project.run("build", "--help").stdout
    assert "--no-file-index" in help_text
    assert "TORANA_NO_FILE_INDEX" in help_text


def test_a_changed_file_makes_the_same_image_as_a_first_build(project: Project) -> None:
    """Unchanged files come from the snapshot before by links, which no layer may show."""
    project.dockerfile("FROM scratch\nCOPY busybox /bin/\nCOPY tree /opt/tree/\n")
    for name in ("a/one", "a/two", "b/three"):
        (project.context / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        project.write(f"tree/{name}", name)
    arguments = ("build", "-o", "type=tar,dest=out.tar", ".")
    assert project.run(*arguments).returncode == 0
    project.write("tree/a/one", "changed")
    (project.context / "tree/b/three").chmod(0o600)
    assert project.run(*arguments).returncode == 0
    with tarfile.open(project.context / "out.tar") as again:
        entries = [entry.get_info() for entry in again if entry.name.startswith("opt/tree")]
        assert not any(entry.islnk() for entry in again)
        assert again.extractfile("opt/tree/a/one").read() == b"changed"  # type: ignore[union-attr]
    inodes = [
        len({path.lstat().st_ino for path in project.store.glob(f"snapshots/*/*/fs/{name}")})
        for name in ("opt/tree/a/two", "opt/tree/a/one", "opt/tree/b/three")
    ]
    assert inodes == [1, 2, 2]
    project.store = project.folder / "another"
    assert project.run(*arguments).returncode == 0
    with tarfile.open(project.context / "out.tar") as first:
        assert entries == [e.get_info() for e in first if e.name.startswith("opt/tree")]


def test_copies_see_through_links_of_the_context(project: Project) -> None:
    """The Dockerfile names a link; what it leads to comes along (`followpaths`)."""
    project.dockerfile("FROM scratch\nCOPY link/inner* /out/\n")
    (project.context / "real").mkdir()
    project.write("real/inner.txt", "found")
    (project.context / "link").symlink_to("real")
    done = project.run("build", "-o", "out", ".")
    assert done.returncode == 0, done.stderr
    assert (project.context / "out/out/inner.txt").read_text() == "found"


def test_prune_voids_the_memo_and_empties_the_store(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox /\n")
    assert project.run("build", ".").returncode == 0
    assert "COPY busybox" in project.run("du").stdout
    assert project.run("prune").returncode == 0
    assert "COPY busybox" not in project.run("du").stdout
    assert project.run("debug", "check-store").returncode == 0


def test_llb_forms(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox /\n")
    for form, mark in (("text", "local://context"), ("json", "{"), ("dot", "digraph")):
        result = project.run("llb", "--format", form, ".")
        assert result.returncode == 0, result.stderr
        assert mark in result.stdout


def test_dockerignore_and_local_export(project: Project) -> None:
    project.write("keep", "k")
    project.write("drop.log", "d")
    project.write(".dockerignore", "*.log\nbusybox\n.dockerignore\n")
    project.dockerfile("FROM scratch\nCOPY . /\n")
    result = project.run("build", "-o", "../out", ".")
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (project.folder / "out").iterdir()) == ["Dockerfile", "keep"]


def _processes() -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


def _is_running(command: str) -> bool:
    return any(line.strip().startswith(command) for line in _processes())


def _wait_for(command: str) -> None:
    deadline = time.monotonic() + 30
    while not _is_running(command):
        assert time.monotonic() < deadline, "the step did not start"
        time.sleep(0.05)


@pytest.mark.needs("script")
def test_terminal_shows_running_steps(project: Project) -> None:
    project.dockerfile("FROM scratch\nCOPY busybox /\n")
    command = f"{sys.executable} -m torana build -t x ."
    result = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        cwd=project.context, env=project.environment(TERM="xterm"),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "[+] Building" in result.stdout
    assert "=> [1/1] COPY busybox /" in result.stdout


def test_add_from_the_web(project: Project) -> None:
    """`ADD URL` fetches once, is cached while the server says so, and fails with a place."""
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    project.write("data.txt", "from the web\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(project.context)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        project.dockerfile(f"FROM scratch\nADD --chmod=640 {url}/data.txt /d/\n")
        out = project.folder / "out"
        done = project.run("build", ".", "-o", f"type=local,dest={out}")
        assert done.returncode == 0, done.stderr
        assert (out / "d/data.txt").read_text() == "from the web\n"
        assert (out / "d/data.txt").stat().st_mode & 0o777 == 0o640
        project.dockerfile(f"FROM scratch\nADD {url}/missing /d/\n")
        failed = project.run("build", ".")
        assert failed.returncode == 1
        assert f"{url}/missing: invalid response status 404" in failed.stderr
        assert "Dockerfile:2" in failed.stderr
        assert "Traceback" not in failed.stderr
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_source_policies(project: Project) -> None:
    project.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    deny = {"action": "DENY", "selector": {"identifier": "local://con*"}}
    project.write("policy.json", json.dumps({"rules": [deny]}))
    build = ("build", ".", "-o", f"type=local,dest={project.folder / 'out'}")
    assert project.run(*build).returncode == 0
    variable = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
    for result in (
        project.run(*build, "--source-policy-file", "policy.json"),
        project.run(*build, **{variable: "policy.json"}),
    ):
        assert result.returncode == 1
        assert 'source "local://context" denied by policy' in result.stderr
        assert "Traceback" not in result.stderr
    project.write("bad.json", '{"rules": [{"action": "FORBID"}]}')
    for name, message in (("bad.json", "must be one of ALLOW, DENY"), ("none", "no such file")):
        result = project.run(*build, "--source-policy-file", name)
        assert (result.returncode, message in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=floppy", "known: `docker`, `image`, `local`, `oci`, `tar`"),
        ("dest=x", "type is required"),
        ("type=local", "needs dest=FOLDER"),
        ("type=oci,dest=x.tar,tar=perhaps", "non-bool value specified for tar: `perhaps`"),
        ("type=oci,dest=x.tar,compression=lz4", "unsupported layer compression type: `lz4`"),
        ("type=oci,dest=x.tar,compression-level=high", "non-integer value high"),
        ("type=oci,dest=x.tar,source-date-epoch=noon", "invalid source-date-epoch: noon"),
        ("type=docker,dest=x.tar,name=host.io/Upper", "must be lowercase"),
        ("type=image,push=true", "no name to push to"),
        ("type=image,name=host.io/a:1,push=true,push-by-digest=true", "can't push tagged ref"),
        ("type=image,name=a,unpack=true,rewrite-timestamp=true", 'conflicts with "unpack"'),
        ("type=image,name=a,store=perhaps", "non-bool value specified for store"),
        ("type=image,name=a,annotation-layer.k=v", "unrecognized annotation type layer"),
        ("type=local,dest=x,mode=sync", "invalid local exporter mode: `sync`"),
        ("type=tar,dest=x.tar,source-date-epoch=noon", "invalid source-date-epoch: noon"),
    ],
)
def test_wrong_outputs_cost_no_build(project: Project, output: str, message: str) -> None:
    project.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    done = project.run("build", ".", "-o", output, "--progress=plain")
    assert message in done.stderr
    assert "COPY" not in done.stderr
    assert done.returncode == 2
    assert not (project.context / "x").exists()


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["--provenance=mode=max"], ["no provenance is recorded"]),
        (["--attest=type=provenance"], ["no provenance is recorded"]),
        (["--build-arg=BUILDKIT_ATTEST_PROVENANCE=mode=min"], ["no provenance is recorded"]),
        (["--provenance=false", "--attest=type=sbom,disabled=true"], []),
    ],
)
def test_attestations_that_are_not_made(
    project: Project, options: list[str], warned: list[str]
) -> None:
    project.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    done = project.run("build", ".", "-t", "name", "--progress=plain", *options)
    assert done.returncode == 0, done.stderr
    for text in warned:
        assert text in done.stderr
    assert done.stderr.count("this engine makes no attestations") == len(warned)


def test_attestations_of_unknown_types(project: Project) -> None:
    project.dockerfile("FROM scratch\n")
    done = project.run("build", ".", "--attest=type=signature")
    assert "unknown type: `signature`" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=tar,dest=.", "-o: dest of type=tar is a folder: `.`"),
        ("type=oci,tar=0,dest=Dockerfile", "-o: dest of type=oci is no folder: `Dockerfile`"),
        ("type=oci,dest=a/b", "-o: no such folder: "),
    ],
)
def test_a_wrong_dest_costs_no_build(project: Project, output: str, message: str) -> None:
    project.dockerfile("FROM scratch\nCOPY Dockerfile /\n")
    done = project.run("build", "-o", output, ".")
    assert done.returncode == 2
    assert message in done.stderr
    assert "COPY" not in done.stderr
