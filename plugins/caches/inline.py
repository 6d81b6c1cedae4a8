"""The `inline` cache: records in the config of the exported image, whose layers they speak of.

It is imported with `type=registry`, by the name of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from torana.core.cache.layers import Layer
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.inline import MEMBER, inline_records, to_member
from torana.plugins.cachebackend import CacheContext, CacheOptionError


class InlineCaches:
    """A backend that only writes."""

    type = "inline"

    def reader(self, attrs: Mapping[str, str], context: CacheContext) -> NoReturn:
        raise CacheOptionError(
            "unknown cache importer: inline", hint="import it with `type=registry,ref=IMAGE`"
        )

    def writer(self, attrs: Mapping[str, str], context: CacheContext) -> InlineWriter:
        return InlineWriter()


class InlineWriter:
    """An `InlineCacheWriter`."""

    def member(self, cache: ExportedCache, image: Sequence[Layer]) -> tuple[str, str] | None:
        records = inline_records(cache, image)
        return (MEMBER, to_member(records)) if records else None
