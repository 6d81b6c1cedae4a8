"""Built-in places for build caches: registry, local and inline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torana.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from torana.plugins.cachebackend import CacheBackend


@hookimpl
def torana_list_cache_backends() -> list[str]:
    """Give the types of the built-in backends."""
    return ["inline", "local", "registry"]


@hookimpl
def torana_find_cache_backend(type: str) -> CacheBackend | None:
    """Give the built-in backend of a type."""
    if type == "registry":
        from torana.plugins.caches.registry import RegistryCaches

        return RegistryCaches()
    if type == "local":
        from torana.plugins.caches.local import LocalCaches

        return LocalCaches()
    if type == "inline":
        from torana.plugins.caches.inline import InlineCaches

        return InlineCaches()
    return None
