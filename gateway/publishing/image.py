"""`FrontendImage`: a folder that builds the image of a frontend.

The image is built like any other, by a Dockerfile: the interpreter is one layer, what is installed
another, so that a new version of a frontend is a small push.
"""

from __future__ import annotations

import compileall
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from torana.core.records import dataclass
from torana.gateway.publishing.distributions import Packed, closure, pack
from torana.gateway.publishing.interpreter import (
    LIBRARIES,
    PREFIX,
    copy_interpreter,
    copy_libraries,
    python_name,
)
from torana.plugins.installed import FoundFrontend

PACKAGES: Final = "opt/torana"
_CAPS: Final = ("inputs", "subrequests", "contexts", "gitquerystring")
_PASSWD: Final = "root:x:0:0:root:/:/sbin/nologin\n"


@dataclass(frozen=True, slots=True)
class FrontendFolder:
    """What to build: the folder, and what went into it."""

    path: Path
    packed: Sequence[Packed]


def prepare(frontend: FoundFrontend, folder: Path, *, base: str = "") -> FrontendFolder:
    """Fill an empty folder with a frontend and a Dockerfile. Blocks for seconds.

    Without `base` the running Python goes along; else the image `base` has to have one of the same
    version.

    Raises:
        NotFoundError: a distribution is missing.
        UnsupportedError: this Python cannot be copied.
    """
    packages = folder / "packages" / PACKAGES
    packages.mkdir(parents=True)
    packed = pack(closure({"torana", frontend.distribution}), packages)
    _compile(packages, PACKAGES)
    if not base:
        runtime = folder / "runtime"
        copy_interpreter(runtime)
        programs = [runtime / PREFIX / "bin" / python_name()]
        programs += [*runtime.rglob("*.so"), *packages.rglob("*.so")]
        copy_libraries(runtime, programs)
        _compile(runtime / PREFIX / "lib", f"{PREFIX}/lib")
        (runtime / "etc").mkdir()
        (runtime / "etc/passwd").write_text(_PASSWD)
        (runtime / "tmp").mkdir()
        (runtime / "tmp").chmod(0o1777)
    (folder / "Dockerfile").write_text(_dockerfile(frontend, packed, base))
    return FrontendFolder(folder, packed)


def _compile(folder: Path, shown: str) -> None:
    """Compile all modules, never to be checked again: an image does not change."""
    compileall.compile_dir(
        os.fspath(folder),
        maxlevels=50,
        ddir=f"/{shown}",
        quiet=2,
        workers=1,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )


def _dockerfile(frontend: FoundFrontend, packed: Sequence[Packed], base: str) -> str:
    python = f"/{PREFIX}/bin/{python_name()}"
    version = ".".join(map(str, sys.version_info[:2]))
    lines = [f"FROM {base or 'scratch'}"]
    if base:
        python = "python3"
        check = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]!r})"
        lines += [
            f"# The packages are compiled for Python {version}.",
            f"RUN {json.dumps([python, '-c', check])}",
        ]
    else:
        lines += ["COPY runtime/ /", f"ENV LD_LIBRARY_PATH=/{LIBRARIES}"]
    lines += [
        "COPY packages/ /",
        f"ENV PYTHONPATH=/{PACKAGES} PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1",
    ]
    labels = {
        "moby.buildkit.frontend.network.none": "true",
        "moby.buildkit.frontend.caps": ",".join(f"moby.buildkit.frontend.{c}" for c in _CAPS),
        "org.opencontainers.image.title": frontend.name,
        "org.opencontainers.image.version": frontend.version,
        "torana.distributions": " ".join(f"{each.name}=={each.version}" for each in packed),
    }
    lines += [f"LABEL {name}={json.dumps(value)}" for name, value in labels.items()]
    command = [python, "-s", "-m", "torana.gateway.runners.serving", frontend.name]
    return "\n".join([*lines, f"ENTRYPOINT {json.dumps(command)}", ""])
