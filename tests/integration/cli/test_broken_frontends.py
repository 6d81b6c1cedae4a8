"""Frontends of others that misbehave: each gives a short error that says whose fault it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.cli.test_build import Project
from tests.sites import Site

pytestmark = pytest.mark.needs("root")

SCREEN_LINES = 24
# The line of the module that `Case.body` stands on, where nothing is above the class.
LINE = "frontend.py:12"


@dataclass(frozen=True)
class Case:
    """What a frontend does, and what is said of it."""

    body: str = "pass"
    top: str = ""
    message: str = ""
    place: str = LINE
    hint: str = ""
    limits: str = "cpu=60s"
    api: int = 1


HOME = "open(os.path.expanduser('~/.ssh/id_ed25519'))"
CASES = {
    "import": Case(
        top="import nosuchmodule",
        message="failed to load at frontend.py:5: ModuleNotFoundError: No module named",
        place="frontend.py:5",
        hint="--disable-plugin torana-bad",
    ),
    "import for ever": Case(
        top="while True: pass",
        message="was stopped at frontend.py:5: it used 1 s of processor time",
        place="frontend.py:5",
        limits="cpu=1s",
    ),
    "api": Case(
        message="cannot be used: it is written for plugin api 7, and this Torana has api 1",
        place="",
        hint="another version of `torana-bad` may do",
        api=7,
    ),
    "crash": Case("raise ValueError('no luck')", message="ValueError: no luck"),
    "loop": Case(
        "while True: pass",
        message="it used 1 s of processor time",
        hint="does it loop?",
        limits="cpu=1s",
    ),
    "loop that catches all": Case(
        "while True:\n            try:\n                sum(range(1000))\n"
        "            except BaseException:\n                pass",
        message="did not complete successfully: exit code: 137",
        place="",
        hint="it was killed, for too much processor time or memory",
        limits="cpu=1s",
    ),
    "busy task": Case(
        "await asyncio.gather(spin())",
        top="import asyncio\nasync def spin():\n    while True:\n        await asyncio.sleep(0)",
        message="it used 1 s of processor time",
        place="frontend.py",
        limits="cpu=1s",
    ),
    "waiting": Case(
        # Long enough for a busy machine to get that far.
        "await asyncio.Event().wait()",
        message="it did nothing for 8 s",
        limits="idle=8s",
    ),
    "memory": Case(
        "bytearray(10 << 30)",
        message="MemoryError",
        hint="frontends may use 2 GiB of memory",
    ),
    "network": Case(
        "socket.create_connection(('192.0.2.1', 80))",
        message="Network is unreachable",
        hint="frontends have no network",
    ),
    "names": Case(
        "urllib.request.urlopen('http://example.org/')",
        message="URLError",
        hint="frontends have no network",
    ),
    "home": Case(HOME, message="FileNotFoundError", hint="frontends see only their own files"),
    "writing": Case(
        "open('/usr/x', 'w')", message="Read-only file system", hint="see only their own files"
    ),
    "output": Case(
        "print('x' * (2 << 20), flush=True); await asyncio.sleep(60)",
        message="it wrote more than 1 MiB",
        place="",
        limits="output=1m",
    ),
    "exit": Case(
        "os._exit(3)",
        message="did not complete successfully: exit code: 3",
        place="",
        hint="its last calls: Ping",
    ),
    "sys.exit": Case("sys.exit(3)", message="SystemExit: 3"),
    "no result": Case(
        "return 7", message="gave no result: `int`", place="", hint="what `client.solve` gives"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_told_in_one_screen(tmp_path: Path, site: Site, name: str) -> None:
    case = CASES[name]
    top = case.top or "pass"
    body = f"import asyncio, os, socket, sys, threading, urllib.request\n        {case.body}"
    site.frontend("bad", version="0.7", manifest={"api": case.api}, top=top, body=body)
    project = Project(tmp_path)
    project.write("Dockerfile", "# syntax=bad\n")
    result = project.run(
        "build", ".", PYTHONPATH=str(site.path), TORANA_FRONTEND_LIMITS=case.limits
    )
    assert result.returncode == 1
    error = result.stderr[result.stderr.rindex("ERROR: ") :]
    assert "frontend `bad` of distribution `torana-bad` 0.7" in error
    assert case.message in error
    assert case.place in error
    assert case.hint in error
    assert "1 | >>> # syntax=bad" in result.stderr
    shown = result.stderr[result.stderr.index("Dockerfile:1\n") :]
    assert len(shown.splitlines()) <= SCREEN_LINES
    if name in ("import", "api", "exit"):
        listed = project.run("frontend", "list", PYTHONPATH=str(site.path))
        assert listed.returncode == 0
        assert "torana-bad" in listed.stdout


@pytest.mark.parametrize(
    ("top", "body", "said"),
    [
        ("pass", "print('raw or not')", " at frontend.py:11: `raw or not`"),
        ("pass", "sys.stdout.buffer.write(b'bytes')", " at frontend.py:11: `bytes`"),
        (
            "pass",
            "t = threading.Thread(target=print, args=('in a thread',)); t.start(); t.join()",
            ": `in a thread`",
        ),
        ("print('on import')", "pass", " at frontend.py:5: `on import`"),
    ],
)
def test_printing_is_an_error_that_says_where(
    tmp_path: Path, site: Site, top: str, body: str, said: str
) -> None:
    site.frontend("loud", version="2.1", top=f"import os, sys, threading; {top}", body=body)
    project = Project(tmp_path)
    project.write("Dockerfile", "# syntax=loud\n")
    result = project.run("build", ".", "-o", "type=tar,dest=-", PYTHONPATH=str(site.path))
    assert result.returncode == 1
    assert result.stdout == ""
    error = result.stderr[result.stderr.rindex("ERROR: ") :]
    assert (
        f"frontend `loud` of distribution `torana-loud` 2.1 printed to standard output{said}"
        in (error)
    )
    assert "hint: frontends give a result and nothing else" in error
    assert result.stderr.index(said.partition("`")[2].rstrip("`")) < result.stderr.index("ERROR: ")


def test_what_programs_print_goes_to_the_log(tmp_path: Path, site: Site) -> None:
    site.frontend(
        "loud", top="import os, sys", body="os.write(1, b'raw'); print(1, file=sys.stderr)"
    )
    project = Project(tmp_path)
    project.write("Dockerfile", "# syntax=loud\n")
    result = project.run("build", ".", "-o", "type=tar,dest=-", PYTHONPATH=str(site.path))
    assert result.returncode == 0, result.stderr
    assert "raw" in result.stderr
    assert "raw" not in result.stdout


def test_a_trusted_frontend_prints_to_standard_error(tmp_path: Path, site: Site) -> None:
    site.frontend(
        "loud", top="print('while importing')", body="print('while building', flush=True)"
    )
    project = Project(tmp_path)
    project.write("Dockerfile", "# syntax=loud\n")
    arguments = ("build", ".", "--trust-plugin", "loud", "-o", "type=tar,dest=-")
    result = project.run(*arguments, PYTHONPATH=str(site.path))
    assert result.returncode == 0, result.stderr
    assert "while" not in result.stdout
    for line in ("while importing", "while building"):
        assert line in result.stderr


def test_a_crash_of_a_built_in_frontend_is_told_like_any_other(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    (crash / "sitecustomize.py").write_text(
        "import torana.frontends.dockerfile.convert as convert\n"
        "def fail(*_, **__): raise KeyError('no luck')\n"
        "convert.evaluate_stage = fail\n"
    )
    project = Project(tmp_path)
    project.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    result = project.run("build", ".", PYTHONPATH=str(crash))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    error = result.stderr[result.stderr.rindex("ERROR: ") :]
    assert error.startswith(
        "ERROR: frontend `dockerfile` of distribution `torana` 0.1.0 crashed at "
    )
    assert "KeyError: 'no luck'\nhint: `torana --debug ...` shows its traceback" in error
    shown = project.run("--debug", "build", ".", PYTHONPATH=str(crash))
    assert "in fail" in shown.stderr


def test_broken_plugins_do_not_keep_others_from_building(tmp_path: Path, site: Site) -> None:
    site.frontend("bad", top="import nosuchmodule")
    site.install("worse", entry_points="[torana.plugins]\nno equals\n")
    site.install("hooks", plugins={"x": "nosuchmodule"})
    project = Project(tmp_path)
    project.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    for arguments in ((), ("-o", str(tmp_path / "out"))):
        result = project.run("build", ".", *arguments, PYTHONPATH=str(site.path))
        assert result.returncode == 0, result.stderr
        assert "nosuchmodule" not in result.stderr
