"""Built-in sources: images, blobs, git, http and https."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torana.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torana.core.ops.source import Source

SCHEMES: Final = ("docker-image", "docker-image+blob", "git", "http", "https")


@hookimpl
def torana_find_source(scheme: str) -> Source | None:
    """Give the built-in source of a scheme."""
    if scheme in ("http", "https"):
        from torana.plugins.sources.http import HttpSource

        return HttpSource()
    if scheme == "docker-image":
        from torana.plugins.sources.image import ImageSource

        return ImageSource()
    if scheme == "docker-image+blob":
        from torana.plugins.sources.blob import BlobSource

        return BlobSource()
    if scheme == "git":
        from torana.plugins.sources.git import GitSource

        return GitSource()
    return None
