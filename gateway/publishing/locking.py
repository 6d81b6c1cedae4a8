"""Frontends from a package index: found out and pinned, installed, and saved for other machines.

Wheels only: nothing of a distribution runs while it is installed. pip does the work, with the index
and the credentials that it is configured for. Torana itself, and what it requires, is not locked:
environments get it from the Torana that runs them, through a folder of links.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torana.core.errors import ToranaError, UnsupportedError, UsageError
from torana.gateway.publishing.distributions import closure
from torana.gateway.publishing.indexes import for_pip as indexes_for_pip
from torana.gateway.publishing.indexes import for_uv as indexes_for_uv
from torana.gateway.runners.environments import COMPLETE, environment_of
from torana.gateway.runners.lockfile import LockedFrontend, Wheel
from torana.plugins.rules import normal

_QUIET: Final = ("--disable-pip-version-check", "--no-input", "--quiet")
_WHEELS_ONLY: Final = ("--only-binary", ":all:")
_MARKS: Final = ("ERROR: ", "error: ")  # of pip, of uv
_ASIDE: Final = "Can't roll back "
_CAUSE: Final = "cause: "
_LINKS: Final = "torana-of-the-engine"


class InstallFailedError(ToranaError):
    """pip failed; `log` has what it said."""

    code = "INSTALL_FAILED"

    def __init__(self, message: str, *, log: bytes = b"", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log = log


def lock(distribution: str, version: str) -> LockedFrontend:
    """Find out which wheels a distribution needs here.

    Raises:
        InstallFailedError: pip cannot find or resolve it.
        UnsupportedError: there is no pip.
    """
    requirement = f"{distribution}=={version}"
    with tempfile.TemporaryDirectory(prefix="torana-lock-") as folder:
        environment = Path(folder) / "environment"
        _create(environment)
        report = _pip(
            ("install", "--dry-run", "--report", "-", *_WHEELS_ONLY, requirement),
            python=environment / "bin" / "python",
            what=f"cannot lock `{requirement}`",
        )
    wheels = tuple(sorted(_wheel(each) for each in json.loads(report)["install"]))
    if all(normal(wheel.name) != normal(distribution) for wheel in wheels):
        raise InstallFailedError(f"cannot lock `{requirement}`: it is part of Torana")
    return LockedFrontend(distribution, version, wheels)


def install(locked: LockedFrontend, folder: Path, *, wheelhouse: Path | None = None) -> Path:
    """Make the environment of an entry below `folder`, unless it is there; gives its place.

    With `wheelhouse` nothing is fetched: the wheels are taken from that folder.

    Raises:
        InstallFailedError: a wheel is not to be had, or has another hash.
    """
    place = environment_of(locked, folder)
    if (place / COMPLETE).exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=folder) as scratch:
        draft = Path(scratch) / "environment"
        _create(draft)
        with _requirements(locked) as file:
            _install_with(
                ("--no-deps", "--require-hashes", *_WHEELS_ONLY, *_from(wheelhouse)),
                file,
                python=draft / "bin" / "python",
                what=f"cannot install `{locked.syntax}`",
            )
        (draft / COMPLETE).touch()
        shutil.rmtree(place, ignore_errors=True)  # the rest of one that was not finished
        with contextlib.suppress(OSError):  # another process was faster
            draft.replace(place)
    return place


def export_wheelhouse(entries: Sequence[LockedFrontend], folder: Path) -> None:
    """Save the wheels of entries in `folder`.

    Raises:
        InstallFailedError: a wheel is not to be had, or has another hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for locked in entries:
        with _requirements(locked) as file:
            _pip(
                (
                    "download",
                    "--no-deps",
                    "--require-hashes",
                    *_WHEELS_ONLY,
                    "--dest",
                    str(folder),
                    "--requirement",
                    file,
                ),
                what=f"cannot save `{locked.syntax}`",
            )


def _create(environment: Path) -> None:
    """Make an environment that has this Torana and what that requires, and nothing else."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(environment)
    links = environment / _LINKS
    links.mkdir()
    for name, target in _torana_files():
        if not (links / name).is_symlink():
            (links / name).symlink_to(target)
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    # Relative to the folder that the file is in, so that the environment can be moved.
    line = f"../../../{_LINKS}\n"
    (environment / site / "torana.pth").write_text(line)


def _torana_files() -> Iterator[tuple[str, Path]]:
    """Give the names that importing Torana needs on `sys.path`, and where they are.

    Links are followed to their end: a sandbox does not show what lies between.
    """
    for distribution in closure(["torana"], unused=()):
        named = (distribution.read_text("top_level.txt") or "").split()
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        if named:  # by an installer of old, which may list more than is imported
            tops = {t for t in tops if t.endswith("-info") or t.partition(".")[0] in named}
        for top in sorted(tops):
            yield top, Path(str(distribution.locate_file(top))).resolve()
        for package in named:
            spec = importlib.util.find_spec(package) if package not in tops else None
            if spec is not None and spec.submodule_search_locations:
                yield package, Path(next(iter(spec.submodule_search_locations))).resolve()


def _wheel(raw: Any) -> Wheel:
    hashes = raw["download_info"]["archive_info"]["hashes"]
    filename = raw["download_info"]["url"].rpartition("/")[2]
    return Wheel(raw["metadata"]["name"], raw["metadata"]["version"], hashes["sha256"], filename)


def _from(wheelhouse: Path | None) -> Sequence[str]:
    return () if wheelhouse is None else ("--no-index", "--find-links", str(wheelhouse.absolute()))


@contextlib.contextmanager
def _requirements(locked: LockedFrontend) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="torana-lock-") as file:
        file.write(locked.requirements())
        file.flush()
        yield file.name


def _install_with(options: Sequence[str], file: str, *, python: Path, what: str) -> None:
    """Install by pip, or by uv where there is no pip."""
    uv = shutil.which("uv")
    if uv is None or _has_pip():
        _pip(("install", *options, "--requirement", file), python=python, what=what)
        return
    # Any index may have the wheel: its hash is known.
    indexes = ("--index-strategy", "unsafe-best-match")
    command = (uv, "pip", "install", "--quiet", "--no-config", "--python", str(python))
    _run((*command, *indexes, *options, "-r", file), what, indexes_for_uv(os.environ))


def _has_pip() -> bool:
    return importlib.util.find_spec("pip") is not None


def _pip(arguments: Sequence[str], *, what: str, python: Path | None = None) -> bytes:
    target = () if python is None else ("--python", str(python))
    with contextlib.ExitStack() as stack:
        program, environment = sys.executable, dict(os.environ)
        if not _has_pip():  # as in environments that uv makes
            program = stack.enter_context(_borrowed_pip(what))
            environment = indexes_for_pip(os.environ)
        return _run((program, "-m", "pip", *target, *arguments, *_QUIET), what, environment)


@contextlib.contextmanager
def _borrowed_pip(what: str) -> Iterator[str]:
    """Have a Python with the pip that Python brings along."""
    with tempfile.TemporaryDirectory(prefix="torana-pip-") as folder:
        try:
            venv.EnvBuilder(symlinks=True, with_pip=True).create(folder)
        except (subprocess.CalledProcessError, OSError) as err:
            raise UnsupportedError(
                f"{what}: there is no pip", hint="install it: `uv pip install pip`, for example"
            ) from err
        yield str(Path(folder, "bin", "python"))


def _run(command: Sequence[str], what: str, environment: Mapping[str, str]) -> bytes:
    kept = {key: value for key, value in environment.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, capture_output=True, env=kept)
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace")
        raise InstallFailedError(f"{what}: {reason(said)}", log=ended.stderr)
    return ended.stdout


def reason(said: str) -> str:
    """Give the line of pip's or uv's that says what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines.sort(key=lambda line: _ASIDE in line)  # what pip says of itself, before the reason
    for number, line in enumerate(lines):
        for mark in _MARKS:
            if line.startswith(mark):
                after = lines[number + 1] if number + 1 < len(lines) else ""
                cause = after.partition(_CAUSE)[2] if after.startswith(_CAUSE) else ""
                return ": ".join(filter(None, (line.removeprefix(mark), cause)))
    return lines[0] if lines else "it gave no reason"


def parse_packaged(text: str) -> tuple[str, str]:
    """Read `pypi:DISTRIBUTION==VERSION`, also without `pypi:`.

    Raises:
        UsageError: it is something else.
    """
    distribution, equals, version = text.removeprefix("pypi:").partition("==")
    if not (distribution and equals and version):
        raise UsageError(f"no pinned distribution: `{text}`", hint="`pypi:DISTRIBUTION==VERSION`")
    return distribution, version
