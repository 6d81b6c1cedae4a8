"""Our client against recordings of the stock daemon: it asks for the same and gives the same.

Each recording is played, or the table says why not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from tests.golden.wire import recording
from tests.golden.wire.daemon import SESSION, RecordedDaemon
from tests.golden.wire.player import FILE_SEND, FILE_SYNC, HEALTH, Tree, make_context
from tests.golden.wire.recording import message_type
from tests.golden.wire.test_sessions import compare_answers, compare_trees, no_umask

from torana.cli.access import parse_agent, parse_secret, read_policy
from torana.cli.exports import parse_output
from torana.core.errors import ToranaError
from torana.core.llb.definition import Definition
from torana.gateway.engines.engine import BuildRequest
from torana.gateway.engines.remote.engine import RemoteEngine
from torana.gateway.protocol import control_pb2, gateway_pb2
from torana.gateway.testing.recordings import Recording, Rpc
from torana.plugins.manager import PluginManager

_PROBES = "buildx probes first and asks for attestations; the same builds are here as buildctl's"
_BUILDX = "a command of buildx that our client does not have"
_NO_COMMAND = "a command of buildctl that our client has for its own store only"
_CACHES = "the options of build caches are not given here"
UNPLAYED = {
    "buildx-bake": _PROBES,
    "buildx-check": _PROBES,
    "buildx-du": _NO_COMMAND,
    "buildx-du-verbose": _NO_COMMAND,
    "buildx-history-inspect": _BUILDX,
    "buildx-history-logs": _BUILDX,
    "buildx-history-ls": _BUILDX,
    "buildx-history-rm": _BUILDX,
    "buildx-inspect": _BUILDX,
    "buildx-local": _PROBES,
    "buildx-oci": _PROBES,
    "buildx-outline": _PROBES,
    "buildx-prune": _NO_COMMAND,
    "buildx-run-error": _PROBES,
    "buildx-stdin-context": _PROBES,
    "buildx-targets": _PROBES,
    "cache-export-local": _CACHES,
    "cache-import-local": _CACHES,
    "debug-logs-trace": "buildctl reads the trace in pieces, our client all at once",
    "debug-monitor": "buildctl listens until Ctrl-C; our client has no such command",
    "du": _NO_COMMAND,
    "du-filter": _NO_COMMAND,
    "du-verbose": _NO_COMMAND,
    "history-delete": "our client does not change histories",
    "history-pin": "our client does not change histories",
    "prune": _NO_COMMAND,
    "prune-filter": _NO_COMMAND,
    "prune-histories": _NO_COMMAND,
}
# What of ours corresponds to a command that is no build.
COMMANDS = {
    "debug-histories": ["debug", "histories"],
    "debug-info": ["debug", "info"],
    "debug-logs": ["debug", "logs", "9ojf55aqk561hwr9514jy501y"],
    "debug-logs-failed": ["debug", "logs", "9xg1c6vr9qo8tohwlzbh5rrjh"],
    "debug-workers": ["debug", "workers"],
}
BUILDS = sorted(set(recording.names()) - set(UNPLAYED) - set(COMMANDS))


class Progress:
    """Sets `is_sleeping` at the line that the user of `cancel` waits for."""

    def __init__(self) -> None:
        self.is_sleeping = asyncio.Event()

    def emit(self, event: object) -> None:
        if b"sleeping now" in getattr(event, "data", b""):
            self.is_sleeping.set()


@pytest.fixture
def socket_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="torana-") as folder:
        yield f"{folder}/d.sock"


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: Any) -> Path:
    """The working directory of the recorded client, and where its user was logged in."""
    found = recording.load(request.getfixturevalue("name"))
    (tmp_path / "src").mkdir()
    with no_umask():
        make_context(found, tmp_path / "src")
    monkeypatch.chdir(tmp_path / "src")
    for key, value in (found.scenario.get("env") or {}).items():
        monkeypatch.setenv(key, value)
    auth = base64.b64encode(b"fixture:throw-away").decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(
        json.dumps({"auths": {"localhost:5001": {"auth": auth}}})
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setattr("torana.plugins.registry.access._default", None)
    return tmp_path / "src"


def make_request(found: Recording) -> BuildRequest:
    """Read a command line of buildctl in the client's working directory."""
    members: dict[str, Any] = {"options": {}, "local_dirs": {}, "oci_layouts": {}}
    lists: dict[str, Any] = {"exports": [], "secrets": [], "agents": []}
    allow: set[str] = set()
    arguments = iter(found.scenario["argv"][2:])
    for option in arguments:
        if option == "--no-cache":
            members["options"]["no-cache"] = ""
            continue
        text = next(arguments)
        name, _, value = text.partition("=")
        match option:
            case "--frontend":
                members["frontend"] = text
            case "--local":
                members["local_dirs"][name] = Path.cwd() / value
            case "--oci-layout":
                members["oci_layouts"][name] = Path.cwd() / value
            case "--opt":
                members["options"][name] = value
            case "--output":
                lists["exports"].append(parse_output(text))
            case "--secret":
                lists["secrets"].append(parse_secret(text, PluginManager()))
            case "--ssh":
                lists["agents"].append(parse_agent(text))
            case "--source-policy-file":
                members["source_policy"] = read_policy(Path(text))
            case "--allow":
                allow.add(text)
            case "--progress" | "--metadata-file":
                pass
            case _:
                raise AssertionError(f"an option that is not known here: {option}")
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        members["options"].setdefault("build-arg:SOURCE_DATE_EPOCH", epoch)
    if found.scenario.get("stdin"):
        members["definition"] = Definition.decode(Path(found.scenario["stdin"]).read_bytes())
    return BuildRequest(
        **members, **lists, allow=frozenset(allow), is_frontend_remote="definition" not in members
    )


@pytest.mark.parametrize("name", BUILDS)
async def test_a_recorded_build(name: str, source: Path, socket_path: str) -> None:
    found = recording.load(name)
    request = make_request(found)
    async with RecordedDaemon.serve(found, socket_path) as daemon, asyncio.timeout(20):
        async with RemoteEngine.open(f"unix://{socket_path}") as engine:
            if name == "cancel":
                await cancelled(engine, request)
            elif found.scenario["exit_code"]:
                with pytest.raises(ToranaError) as failure:
                    await run(engine, request)
                solve = found.of("Control/Solve")[0].end
                assert solve is not None
                assert failure.value.message in solve.text
            else:
                await run(engine, request)
    assert daemon.unexpected == []
    assert {method.rpartition("/")[2] for method in daemon.uncalled()} <= {"Export"}
    compare_requests(found, daemon, is_question="requestid" in request.options)
    compare_metadata(found, daemon)
    compare_inner(found, daemon)
    compare_files(found, source)


async def run(engine: RemoteEngine, request: BuildRequest) -> None:
    if "requestid" in request.options:
        answer = await engine.ask(request, Progress())
        assert answer["result.json"]
    else:
        await engine.build(request, Progress())


async def cancelled(engine: RemoteEngine, request: BuildRequest) -> None:
    progress = Progress()
    building = asyncio.ensure_future(engine.build(request, progress))
    await progress.is_sleeping.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building


@pytest.mark.parametrize("name", sorted(COMMANDS))
async def test_a_recorded_question(name: str, source: Path, socket_path: str) -> None:
    found = recording.load(name)
    async with RecordedDaemon.serve(found, socket_path) as daemon, asyncio.timeout(20):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "torana", "--addr", f"unix://{socket_path}", *COMMANDS[name]),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    assert process.returncode == found.scenario["exit_code"], errors.decode()
    assert b"Traceback" not in errors
    assert output or errors
    assert daemon.unexpected == []
    assert {method.rpartition("/")[2] for method in daemon.uncalled()} <= {"Export"}


def compare_requests(found: Recording, daemon: RecordedDaemon, *, is_question: bool) -> None:
    """Compare what was asked of the daemon, random ids aside."""
    for rpc in found.rpcs.values():
        if rpc.caller != "client" or rpc.method.endswith(("/Export", "/Session")):
            continue
        recorded = rpc.messages(of_caller=True)
        made = daemon.requests[rpc.number]
        assert len(made) == len(recorded), rpc.method
        for old, new in zip(recorded, made, strict=True):
            one, other = plain(rpc, new, is_question), plain(rpc, old, is_question)
            if one != other:  # far too long for the messages of `assert`
                pytest.fail(f"{rpc.method}:\n{one}\ninstead of\n{other}", pytrace=False)


def plain(rpc: Rpc, data: bytes, is_question: bool) -> Message:
    """Decode a request, without what is random and what only Go has."""
    kind = message_type(rpc, of_caller=True)
    assert kind is not None
    message: Any = kind.FromString(data)
    if isinstance(message, control_pb2.SolveRequest):
        message.Ref = message.Session = ""
        if is_question:  # ours leave no record, and say nothing of what they ask here
            message.Internal = False
            message.FrontendAttrs.clear()
    elif isinstance(message, control_pb2.StatusRequest):
        message.Ref = ""
    elif isinstance(message, gateway_pb2.ReturnRequest):
        if is_question:
            message.Clear()
        own = [d for d in message.error.details if not d.type_url.endswith("stack.Stack+json")]
        own.sort(key=lambda detail: detail.type_url)
        del message.error.details[:]
        message.error.details.extend(own)
    result: Message = message
    return result


def compare_metadata(found: Recording, daemon: RecordedDaemon) -> None:
    """See that calls name the build and its session."""
    solves = found.of("Control/Solve")
    made = control_pb2.SolveRequest.FromString(daemon.requests[solves[0].number][0])
    for number, pairs in daemon.metadata.items():
        rpc = found.rpcs[number]
        if "LLBBridge/" in rpc.method:
            assert dict(pairs)["buildkit-controlapi-buildid"] == made.Ref
        if rpc.method == SESSION:
            assert dict(pairs)["x-docker-expose-session-uuid"] == made.Session
            served = {text for key, text in pairs if key.endswith("session-grpc-method")}
            asked = {r.method for r in found.rpcs.values() if r.connection.startswith("s")}
            assert asked <= served


def compare_inner(found: Recording, daemon: RecordedDaemon) -> None:
    """Compare what was answered inside of sessions."""
    for rpc in found.rpcs.values():
        if not rpc.connection.startswith("s") or rpc.method.startswith(HEALTH):
            continue
        played, end = daemon.inner[rpc.number], rpc.end
        method = rpc.method.partition(".v1.")[2]
        if method != "SSH/ForwardAgent":  # there Go reports the end of the agent's connection
            code = end.code if end is not None and end.kind == "status" else 0
            assert played.code == code, (method, played.error)
        if rpc.method == FILE_SYNC:
            if played.tree is not None:
                compare_trees(played.tree, Tree.of(rpc.messages(of_caller=False)))
        elif rpc.method != FILE_SEND and method != "SSH/ForwardAgent":  # signatures are random
            compare_answers(method, rpc.messages(of_caller=False), played.answers)


def compare_files(found: Recording, folder: Path) -> None:
    """Compare what was written."""
    for entry in found.scenario.get("written", ()):
        path = folder / entry["path"]
        if entry["path"] in ("metadata.json", "out/ingest"):
            continue  # written by the command line; a folder of containerd's
        assert os.path.lexists(path), entry["path"]
        status = path.lstat()
        if entry.get("type") == "symlink":
            assert os.readlink(path) == entry["target"]
            continue
        is_of_result = entry["type"] != "dir" and "/" in entry["path"]
        if "mode" in entry and is_of_result:
            assert stat.S_IMODE(status.st_mode) == int(entry["mode"], 8), entry["path"]
        if "sha256" in entry:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"], entry["path"]
        if "mtime" in entry:
            assert status.st_mtime == entry["mtime"], entry["path"]


def test_the_table_names_recordings() -> None:
    assert set(UNPLAYED) <= set(recording.names())
    assert len(BUILDS) + len(COMMANDS) + len(UNPLAYED) == len(recording.names())
