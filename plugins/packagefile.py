"""Files of a frontend's package, read without importing it."""

from __future__ import annotations

from pathlib import Path

from torana.core.errors import NotFoundError
from torana.plugins.installed import FoundFrontend


def read_package_file(found: FoundFrontend, name: str) -> str:
    """Read a file that lies in the package of a frontend's entry point, or in one above it.

    Raises:
        NotFoundError: there is none.
    """
    from importlib.util import find_spec

    top, *inner = found.target.partition(":")[0].split(".")
    spec = find_spec(top)
    for place in list(spec.submodule_search_locations or ()) if spec is not None else ():
        folder = Path(place, *inner)
        while folder != Path(place).parent:
            if (folder / name).is_file():
                return (folder / name).read_text("utf-8")
            folder = folder.parent
    raise NotFoundError(f"frontend `{found.name}` comes without the file it names: `{name}`")
