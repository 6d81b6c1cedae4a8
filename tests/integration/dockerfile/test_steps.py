"""RUN: scripts, mounts and triggers as the steps themselves see them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest
from tests.integration.dockerfile.builder import BASE, Builder, is_cached

pytestmark = pytest.mark.needs("root", "busybox")


def test_scripts(builder: Builder) -> None:
    """DF-078, DF-079, DF-080, DF-081, DF-082, DF-083: who runs a document, and as what."""
    builder.build(
        """\
FROM base
ARG A=value
RUN <<EOF
x=one
test "$x $A" = "one value"
echo "$0" > /shell
EOF
RUN test "$(cat /shell)" = /bin/sh
RUN <<-EOF
	cat > /indented <<-END
		text
	END
	test "$(cat /indented)" = text
	EOF
RUN <<EOF
#!/bin/awk -f
BEGIN { print "from awk" > "/awk" }
EOF
RUN <<-EOF
	#!/bin/sh -e
	echo "$0" > /script
	EOF
RUN test "$(cat /awk)" = "from awk" && test "$(cat /script)" = /dev/pipes/EOF \\
    && test ! -e /dev/pipes
RUN cat <<A | tr a b > /piped; cat <<B >> /piped
aaa
A
$A
B
RUN test "$(cat /piped | xargs)" = "bbb value"
RUN <<A 3<<B cat - /dev/fd/3 > /both
first
A
second
B
RUN test "$(cat /both | xargs)" = "first second"
SHELL ["/bin/awk"]
RUN <<EOF
BEGIN { print "shell is awk" > "/program" }
EOF
SHELL ["/bin/sh", "-c"]
RUN test "$(cat /program)" = "shell is awk"
"""
    )


def test_bind_mounts(builder: Builder) -> None:
    """DF-190: changes in a writable one are lost; a read-only one refuses them."""
    builder.write("folder/file", "here")
    builder.build(
        """\
FROM base AS other
RUN mkdir /s && echo there > /s/file
FROM base
RUN --mount=target=/c test "$(cat /c/folder/file)" = here && ! touch /c/new
RUN --mount=source=folder,target=/c,rw echo changed > /c/file && touch /c/new
RUN --mount=source=folder,target=/c test "$(cat /c/file)" = here && test ! -e /c/new
RUN --mount=from=other,source=s/file,target=/f test "$(cat /f)" = there
RUN test ! -e /f && test ! -e /c
"""
    )


def test_mount_of_a_file_in_a_mounted_folder(builder: Builder) -> None:
    """DF-211: both are seen, and a change of either runs the step again."""
    builder.write("folder/inner/one", "1")
    builder.write("folder/two", "2")
    text = """\
FROM base
RUN --mount=source=folder,target=/c --mount=source=folder/two,target=/c/inner/one \\
    echo "$(cat /c/inner/one) $(cat /c/two)" | tee /seen
"""
    assert "2 2" in builder.build(text)
    assert is_cached(builder.build(text), "/seen")
    builder.write("folder/two", "3")
    assert "3 3" in builder.build(text)


def test_cache_mounts(builder: Builder) -> None:
    """DF-199, DF-212: kept between builds, not in the image; links stay inside."""
    out = builder.files(
        """\
FROM base
RUN --mount=type=cache,target=/cache,id=kept echo one > /cache/file && ln -s /etc /cache/link
RUN --mount=type=cache,target=/cache,id=kept mkdir -p /cache/etc && echo in > /cache/etc/inside
RUN --mount=type=cache,target=/m,id=kept,source=link test "$(cat /m/inside)" = in
RUN --mount=type=cache,target=/cache,id=other test ! -e /cache/file
"""
    )
    assert not (out / "cache").exists()
    log = builder.build(
        "FROM base\nRUN --mount=type=cache,target=/elsewhere,id=kept cat /elsewhere/file\n"
    )
    assert "one" in log


def test_memory_mounts(builder: Builder) -> None:
    """DF-200: empty at the start, limited, gone afterwards."""
    builder.build(
        """\
FROM base
RUN mkdir /t && echo hidden > /t/below
RUN --mount=type=tmpfs,target=/t,size=1m test -z "$(ls /t)" && echo x > /t/file \\
    && ! dd if=/dev/zero of=/t/big bs=1M count=2
RUN test "$(ls /t)" = below
"""
    )


def test_triggers(builder: Builder) -> None:
    """DF-284, DF-287, DF-289, DF-291: triggers run first, once, and read stages of their user."""
    builder.write("given", "context")
    log = builder.build(
        """\
FROM base AS tools
RUN echo tool > /tool
FROM base AS parent
ONBUILD COPY --from=tools /tool /tool
ONBUILD COPY given /given
ONBUILD RUN --mount=type=cache,target=/c cat /given >> /log
ONBUILD ENV FROM_TRIGGER=yes
FROM parent AS child
RUN test "$FROM_TRIGGER" = yes && test "$(cat /tool /log | xargs)" = "tool context"
FROM child
RUN test "$(cat /log)" = context
"""
    )
    assert "ONBUILD COPY given /given" in log


def test_failing_step_shows_its_lines(builder: Builder) -> None:
    """DF-367: all lines of the instruction are marked."""
    result = builder.run("FROM base\nRUN echo out && \\\n  exit 3\nRUN true\n")
    assert result.returncode == 1
    assert ">>> RUN echo out && \\\n" in result.stderr
    assert ">>>   exit 3\n" in result.stderr
    assert ">>> RUN true" not in result.stderr
    assert "exit code: 3" in result.stderr


def test_options_of_processes(builder: Builder) -> None:
    """DF-180, DF-184: network, hosts, limits and memory of the command line reach the steps."""
    builder.build(
        """\
FROM base
RUN grep -E '1.2.3.4\\s+there' /etc/hosts && test "$(ulimit -n)" = 512 \\
    && df -k /dev/shm | grep -E ' 2048 '
RUN --network=none test "$(ls /sys/class/net)" = lo
""",
        "--add-host=there=1.2.3.4",
        "--ulimit=nofile=512",
        "--shm-size=2m",
    )


def test_devices_need_a_grant(builder: Builder) -> None:
    """DF-RUN --device: refused without `--allow`, whatever is in the cache."""
    folder = builder.folder / "cdi"
    folder.mkdir()
    edits = {"env": ["FROM_DEVICE=yes"]}
    file = {"kind": "acme.com/a", "devices": [{"name": "b", "containerEdits": edits}]}
    (folder / "a.json").write_text(json.dumps(file))
    text = "FROM base\nRUN --device=acme.com/a=b,required test $FROM_DEVICE = yes\n"
    told = {"TORANA_CDI_SPEC_DIRS": str(folder)}
    builder.build(text, "--allow=device=acme.com/a=b", **told)
    refused = builder.run(text, **told)
    assert refused.returncode == 1
    assert "device acme.com/a=b is requested by the build but not allowed" in refused.stderr
    assert ">>> RUN --device" in refused.stderr
    missing = builder.run(text.replace("a=b", "a=c"), "--allow=device", **told)
    assert missing.returncode == 1
    assert 'required device "acme.com/a=c" is not registered' in missing.stderr


def test_insecure_steps_need_a_grant(builder: Builder) -> None:
    text = "FROM base\nRUN --security=insecure test -w /proc/sys/kernel/hostname\n"
    refused = builder.run(text)
    assert refused.returncode == 1
    assert "security.insecure is not allowed" in refused.stderr
    builder.build(text, "--allow=security.insecure")
    refused = builder.run(text)
    assert refused.returncode == 1, "what is in the cache is no way around it"


def at_once(builder: Builder, steps: list[str], between: Callable[[], None]) -> None:
    """Build several Dockerfiles by processes of their own, at the same time."""
    running = []
    for number, step in enumerate(steps):
        name = f"Dockerfile-{number}"
        builder.write(name, f"{BASE}FROM base\n{step}\n")
        line = ["build", "--progress=plain", "-f", name, "."]
        running.append(builder.start(*line))
    between()
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_private_caches_of_processes(builder: Builder) -> None:
    """Two builds have a private cache at the same time: each finds its own, empty one."""
    builder.build("FROM base\n")
    sleeper = str(10**8 + int(token_hex(3), 16))

    def sleepers() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes() == f"sleep\0{sleeper}\0".encode():
                    found.append(int(path.parent.name))
        return found

    def let_go() -> None:
        wait_for(lambda: len(sleepers()) == 2)
        for pid in sleepers():
            os.kill(pid, signal.SIGKILL)

    step = (
        "RUN --mount=type=cache,target=/c,id={0},sharing=private : {1}; test ! -e /c/mine "
        "&& touch /c/mine && (sleep {0}; true)"
    )
    at_once(builder, [step.format(sleeper, name) for name in ("one", "two")], let_go)


def test_locked_caches_of_processes(builder: Builder) -> None:
    """Only one build at a time is in a locked cache, and all see the same one."""
    builder.build("FROM base\n")
    step = (
        "RUN --mount=type=cache,target=/c,id=locked,sharing=locked : {0}; mkdir /c/inside "
        "&& sleep 0.2 && rmdir /c/inside && echo {0} >> /c/names"
    )
    at_once(builder, [step.format(name) for name in ("one", "two", "three")], lambda: None)
    builder.build(
        "FROM base\nRUN --mount=type=cache,target=/c,id=locked test $(wc -l < /c/names) = 3\n"
    )


def test_shared_caches_of_processes(builder: Builder) -> None:
    """Builds of several processes are in a shared cache at the same time: each waits for all."""
    builder.build("FROM base\n")
    names = ("one", "two", "three")
    step = (
        "RUN --mount=type=cache,target=/c,id=shared touch /c/{0}; "
        "until test -e /c/one -a -e /c/two -a -e /c/three; do sleep 0.02; done"
    )
    at_once(builder, [step.format(name) for name in names], lambda: None)


def test_caches_of_killed_processes(builder: Builder) -> None:
    """`kill -9` gives a cache free, with all that is in it, however it was shared."""
    builder.build("FROM base\n")
    for sharing in ("locked", "private", "shared"):
        mark = token_hex(8)
        mount = f"--mount=type=cache,target=/c,id={mark},sharing={sharing}"
        script = f"echo {mark} > /c/mark; touch /c/ready; sleep 1000"
        builder.write("Dockerfile-killed", f"{BASE}FROM base\nRUN {mount} {script}\n")
        process = builder.start("build", "-f", "Dockerfile-killed", ".")
        wait_for(lambda: list((builder.store / "cachemounts").glob("*/fs/ready")))
        process.kill()
        process.communicate(timeout=60)
        builder.build(f"FROM base\nRUN {mount} test $(cat /c/mark) = {mark} && rm /c/ready\n")


def test_ignoring_the_cache_empties_caches(builder: Builder) -> None:
    """B19: `--no-cache` finds its cache mounts empty, those with an image below them as well."""
    builder.write("f", "f")
    text = (
        "FROM base AS filled\nCOPY f /\n"
        "FROM base\n"
        "RUN --mount=type=cache,target=/c,id=mine echo x >> /c/lines; cp /c/lines /plain\n"
        "RUN --mount=type=cache,target=/d,id=other,from=filled echo x >> /d/lines; "
        "cp /d/lines /based; test -e /d/f\n"
        "RUN test $(wc -l < /plain) = {0} && test $(wc -l < /based) = {0}\n"
    )
    builder.build(text.format(1))
    again = text.replace("echo x", "echo  x")
    builder.build(again.format(2))
    builder.build(text.format(1), "--no-cache")
