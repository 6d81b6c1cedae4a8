"""Secrets and ssh agents reach the steps that name them, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration import who
from tests.integration.dockerfile.builder import Builder, is_cached

pytestmark = pytest.mark.needs("root", "busybox")


@who.other_users
def test_secret_files(builder: Builder) -> None:
    """DF-201, DF-205: place, mode and owner of the file; nothing is left where it was."""
    secret = builder.folder / "token"
    secret.write_text("open-sesame")
    out = builder.files(
        """\
FROM base
RUN --mount=type=secret,id=token test "$(cat /run/secrets/token)" = open-sesame \\
    && test "$(stat -c %a:%u:%g /run/secrets/token)" = 400:0:0
RUN --mount=type=secret,id=token,target=/t,uid=3,gid=4,mode=0440 \\
    test "$(stat -c %a:%u:%g /t)" = 440:3:4
RUN --mount=type=secret,id=none test ! -e /run/secrets/none
RUN ! grep -r open-sesame /etc /run /tmp /t && test ! -e /run/secrets
""",
        f"--secret=id=token,src={secret}",
    )
    assert not any(b"open-sesame" in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_secret_variables(builder: Builder) -> None:
    """DF-203: a variable alone, or with a file."""
    builder.build(
        """\
FROM base
RUN --mount=type=secret,id=token,env=TOKEN test "$TOKEN" = open-sesame \\
    && test ! -e /run/secrets/token
RUN --mount=type=secret,id=token,env=TOKEN,target=/t test "$TOKEN" = "$(cat /t)"
RUN test -z "$TOKEN"
""",
        "--secret=id=token,env=VARIABLE",
        VARIABLE="open-sesame",
    )


def test_missing_secret_that_is_required(builder: Builder) -> None:
    """DF-202: the step fails, and its line is shown."""
    result = builder.run("FROM base\nRUN --mount=type=secret,id=token,required true\n")
    assert result.returncode == 1
    assert "token" in result.stderr.splitlines()[-2] + result.stderr.splitlines()[-1]
    assert ">>> RUN --mount=type=secret,id=token,required true" in result.stderr


def test_changed_secret_runs_nothing_again(builder: Builder) -> None:
    secret = builder.folder / "token"
    text = "FROM base\nRUN --mount=type=secret,id=token wc -c /run/secrets/token\n"
    secret.write_text("one")
    assert not is_cached(builder.build(text, f"--secret=id=token,src={secret}"), "wc -c")
    secret.write_text("other")
    assert is_cached(builder.build(text, f"--secret=id=token,src={secret}"), "wc -c")


def test_changed_secret_runs_again_where_asked(builder: Builder) -> None:
    """Whichever way a step has it; not other steps, and not for its being read again."""
    secret = builder.folder / "token"
    text = """\
FROM base
RUN echo plain
RUN --mount=type=secret,id=token wc -c /run/secrets/token
RUN --mount=type=secret,id=other true other
RUN --mount=type=secret,id=variable,env=V echo variable
"""

    def cached(**environment: str) -> list[bool]:
        log = builder.build(
            text,
            f"--secret=id=token,src={secret}",
            f"--secret=id=other,src={secret}",
            "--secret=id=variable,env=V",
            "--opt=rebuild-on-secret=token,variable",
            **environment,
        )
        return [is_cached(log, part) for part in ("plain", "wc -c", "true other", "echo variable")]

    secret.write_text("one")
    cached(V="a")
    assert cached(V="a") == [True, True, True, True]
    assert cached(V="b") == [True, True, True, False]
    secret.write_text("two")
    assert cached(V="b")[:2] == [True, False]
    secret.write_text("one")
    assert cached(V="a") == [True, True, True, True]
    key = builder.store / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A new key without a passphrase."""
    path = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "torana test", "-f", path], check=True
    )
    return path


ASK = """\
FROM base
RUN --mount=type=ssh test "$SSH_AUTH_SOCK" = /run/buildkit/ssh_agent.0 \\
    && test -S "$SSH_AUTH_SOCK"
RUN --mount=type=ssh,target=/a,mode=0640,uid=3,gid=4 test "$(stat -c %a:%u:%g /a)" = 640:3:4
RUN --mount=type=ssh --mount=type=ssh,id=second test -S /run/buildkit/ssh_agent.0 \\
    && test ! -e /run/buildkit/ssh_agent.1
RUN --mount=type=ssh --mount=source=tools,target=/tools \\
    /tools/loader --library-path /tools /tools/ssh-add -l | grep 'torana test'
"""


def add_program(builder: Builder, name: str) -> None:
    """Put a program of this machine with its libraries and loader into the context's `tools`."""
    program = shutil.which(name)
    assert program is not None
    builder.write(f"tools/{name}", Path(program).read_bytes(), 0o755)
    lines = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for line in lines.splitlines():
        path = next((Path(word) for word in line.split() if word.startswith("/")), None)
        if path is not None:
            target = "loader" if path.name.startswith("ld-") else path.name
            builder.write(f"tools/{target}", path.read_bytes(), 0o755)


@who.other_users
@pytest.mark.needs("ssh-agent", "ssh-add", "ssh-keygen")
def test_ssh_keys(builder: Builder, key: Path) -> None:
    """DF-206, DF-207: an agent that holds the key answers at the usual place or the given one."""
    add_program(builder, "ssh-add")
    builder.build(ASK, f"--ssh=default={key}")


@who.other_users
@pytest.mark.needs("ssh-agent", "ssh-add", "ssh-keygen")
def test_ssh_agent_of_the_user(builder: Builder, key: Path) -> None:
    socket = key.parent / "a.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            assert agent.poll() is None
        environment = {"SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", key], env=environment, check=True)
        add_program(builder, "ssh-add")
        builder.build(ASK, "--ssh=default", **environment)
    finally:
        agent.terminate()
        agent.wait()


@pytest.mark.needs("ssh-agent", "ssh-add", "ssh-keygen")
def test_ssh_is_refused_with_a_reason(builder: Builder, key: Path) -> None:
    required = "FROM base\nRUN --mount=type=ssh,required true\n"
    result = builder.run(required)
    assert result.returncode == 1
    assert "--ssh default" in result.stderr
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "phrase", "-f", key], check=True)
    result = builder.run(required, f"--ssh=default={key}")
    assert result.returncode == 1
    assert "ssh key cannot be used" in result.stderr
