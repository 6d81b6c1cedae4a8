"""Which platforms a file is built for."""

from __future__ import annotations

from collections.abc import Sequence

from torana.core.oci.platform import Platform
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.yamltree import Items, Table
from torana.frontends.yaml import fields
from torana.frontends.yaml.document import Document


def platforms(context: BuildContext, document: Document) -> Sequence[Platform]:
    """Give the platforms that were asked for, else those of the file, else the engine's own."""
    if context.options.platforms:
        return context.options.platforms
    defaults = document.root.get("defaults")
    listed = defaults.get("platforms") if isinstance(defaults, Table) else None
    if isinstance(listed, Items) and listed.items:
        found = [fields.platform(item) for item in listed]
        return list(dict.fromkeys(each for each in found if each is not None))
    return (context.build_platform,)
