"""Files that lie beside a frontend's module: grammars, schemas."""

from __future__ import annotations

import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def read_resource(module: str, name: str) -> str:
    """Give the text of the file `name` in the folder of a loaded module.

    Raises:
        OSError: there is none.
    """
    return resource_path(module, name).read_text("utf-8")


def resource_path(module: str, name: str) -> Traversable:
    """Give where that is."""
    found = sys.modules[module]
    package = module if hasattr(found, "__path__") else module.rpartition(".")[0]
    if package:
        return files(package).joinpath(name)
    assert found.__file__ is not None
    return Path(found.__file__).parent / name
