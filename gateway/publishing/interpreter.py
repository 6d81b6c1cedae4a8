"""The running Python, copied with its standard library and the shared libraries it needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from torana.core.errors import UnsupportedError

PREFIX: Final = "usr/local"
LIBRARIES: Final = f"{PREFIX}/lib/shared"
_LEFT_OUT: Final = shutil.ignore_patterns(
    "__pycache__",
    "*.pyc",
    "*.a",
    "config-*",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "_tkinter*",
    "_test*",
)
_LINE: Final = re.compile(r"\s*(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)")


def python_name() -> str:
    """Give the interpreter's name with its version, `python3.11`."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def copy_interpreter(root: Path) -> None:
    """Put Python below `root`, at `/usr/local`.

    Raises:
        UnsupportedError: this Python cannot be found on the disk.
    """
    binary = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    if not binary.is_file():
        raise UnsupportedError(
            "the running Python has no program that could be copied",
            hint="name an image with --base",
        )
    place = root / PREFIX / "bin" / python_name()
    place.parent.mkdir(parents=True)
    shutil.copy2(binary, place)
    place.chmod(0o755)
    (place.parent / "python3").symlink_to(python_name())
    variables = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
    library = root / PREFIX / "lib" / python_name()
    for kind in ("stdlib", "platstdlib"):
        source = sysconfig.get_path(kind, vars=variables)
        shutil.copytree(source, library, ignore=_LEFT_OUT, symlinks=False, dirs_exist_ok=True)


def copy_libraries(root: Path, programs: Iterable[Path]) -> None:
    """Put the shared libraries of `programs` (and the loader) below `root`."""
    target = root / LIBRARIES
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(_libraries(programs)):
        if "/ld-" in path:
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
            place.chmod(0o755)
        else:
            shutil.copyfile(path, target / os.path.basename(path))


def _libraries(programs: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for program in programs:
        try:
            said = subprocess.run(
                ["ldd", str(program)],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        except FileNotFoundError:
            raise UnsupportedError(
                "the program `ldd` is not there", hint="name an image with --base"
            ) from None
        for line in said.stdout.splitlines():
            match = _LINE.match(line)
            if match is not None:
                found.add(match["path"])
    return found
