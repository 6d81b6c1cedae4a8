"""`program_files`: a program of the host and the shared objects that it is loaded with."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from typing import Final

from torana.core.ops.runtime import RuntimeFailedError
from torana.core.records import dataclass

_NAMED: Final = re.compile(r"^\s*(\S+) => (/\S+)", re.MULTILINE)
_LOADER: Final = re.compile(r"^\s*(/\S*/ld-\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProgramFiles:
    """Paths of the host. `libraries` has them by the names under which they are looked for."""

    program: str
    loader: str
    libraries: tuple[tuple[str, str], ...]


@cache
def program_files(name: str) -> ProgramFiles:
    """Give the files of a program on PATH.

    Raises:
        RuntimeFailedError: it is not there, or cannot be looked into.
    """
    program = shutil.which(name)
    if program is None:
        raise RuntimeFailedError(f"`{name}` is not on PATH", hint="install util-linux")
    try:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as err:
        raise RuntimeFailedError(f"cannot tell what `{program}` is loaded with: {err}") from err
    return parse(program, done.stdout)


def parse(program: str, text: str) -> ProgramFiles:
    """Read what `ldd` says of `program`.

    Raises:
        RuntimeFailedError: it names no loader.
    """
    loader = _LOADER.search(text)
    if loader is None:
        raise RuntimeFailedError(f"cannot tell what `{program}` is loaded with: no loader")
    return ProgramFiles(program, loader[1], tuple(_NAMED.findall(text)))
