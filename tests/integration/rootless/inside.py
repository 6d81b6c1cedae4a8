"""`python inside.py FOLDER ARGUMENT...`: pytest as root of a namespace.

Whoever starts it enters the namespaces of `torana build` first.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from torana.core.snapshots import namespace


def main() -> int:
    folder, *arguments = sys.argv[1:]
    namespace.enter()
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
    if not os.access(sys.executable, os.X_OK):
        sys.executable = _own_python(Path(folder) / "python")
    return pytest.main(arguments)


def _own_python(folder: Path) -> str:
    """Give a Python that this user may start, where that of the virtual environment is root's."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for part in ("bin", f"lib/{name}"):
        (folder / part).mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (folder / "bin/python").symlink_to(f"/usr/bin/{name}")
    (folder / f"lib/{name}/site-packages").symlink_to(sysconfig.get_path("purelib"))
    return str(folder / "bin/python")


if __name__ == "__main__":
    sys.exit(main())
