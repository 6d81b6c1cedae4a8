"""`load`: a build file to its nodes.

Spec: reference of the format, section 5.
"""

from __future__ import annotations

from typing import Final

from torana.frontends.kit.diagnostics import SourceFile
from torana.frontends.kit.yamlcomposer import compose, start_of
from torana.frontends.kit.yamltree import Table

_HINT: Final = "it begins with `version: 1`"


def load(file: SourceFile) -> Table:
    """Compose a build file.

    Raises:
        BuildFileError: it is no YAML, too big or too deep, has keys twice, or is no mapping.
    """
    node = compose(file)
    if node is None:
        raise start_of(file).error("the file is empty", hint=_HINT)
    if not isinstance(node, Table):
        raise node.mark.error("a build file is a mapping", hint=_HINT)
    return node
