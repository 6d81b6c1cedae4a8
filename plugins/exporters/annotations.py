"""`Annotations`: what users and frontends write on manifests, indexes and their descriptors.

Spec: exporters reference, section 11.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from torana.core.errors import UserError
from torana.core.oci.platform import Platform, parse_platform
from torana.core.records import dataclass

_KEY: Final = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)")
_INDEX, _INDEX_DESCRIPTOR = "index", "index-descriptor"
_MANIFEST, _MANIFEST_DESCRIPTOR = "manifest", "manifest-descriptor"
_OF_INDEX: Final = (_INDEX, _INDEX_DESCRIPTOR)
_TYPES: Final = (*_OF_INDEX, _MANIFEST, _MANIFEST_DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations by type and platform; the platform ``""`` means all."""

    found: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)

    @property
    def index(self) -> Mapping[str, str]:
        """What an index says of itself."""
        return self.found.get((_INDEX, ""), {})

    @property
    def index_descriptor(self) -> Mapping[str, str]:
        """What is said of an index where it is named."""
        return self.found.get((_INDEX_DESCRIPTOR, ""), {})

    def manifest(self, platform: Platform) -> Mapping[str, str]:
        """What a platform's manifest says of itself."""
        return self._of(_MANIFEST, platform)

    def manifest_descriptor(self, platform: Platform) -> Mapping[str, str]:
        """What is said of a platform's manifest where it is named."""
        return self._of(_MANIFEST_DESCRIPTOR, platform)

    def _of(self, kind: str, platform: Platform) -> Mapping[str, str]:
        own = self.found.get((kind, platform.format_all()), {})
        return {**self.found.get((kind, ""), {}), **own}

    def check(self, platforms: Sequence[Platform], *, has_index: bool, oci_types: bool) -> None:
        """See that all have a place in an image of `platforms`.

        Raises:
            UserError: one has none.
        """
        known = {platform.format_all() for platform in platforms}
        for (kind, platform), values in self.found.items():
            if platform and platform not in known:
                raise UserError(f"invalid annotation: no platform {platform} found in source")
            if values and kind != _MANIFEST and not oci_types:
                raise UserError('cannot export annotations with "oci-mediatypes=false"')
        if not has_index and (self.index or self.index_descriptor):
            raise UserError(
                "index annotations not supported for single platform export",
                hint="an image of one platform has no index; without `index:` it goes to the "
                "manifest",
            )


def read_annotations(*sources: Mapping[str, str]) -> Annotations:
    """Find annotations among attributes; what a later source says counts more.

    Raises:
        UserError: a type is unknown, or a platform is malformed or has no place.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for source in sources:
        for key, value in source.items():
            match = _KEY.fullmatch(key)
            if match is None:
                continue
            kind, platform, name = match[1] or _MANIFEST, match[2] or "", match[3]
            if kind not in _TYPES:
                raise UserError(
                    f"unrecognized annotation type {kind}: `{key}`", hint=", ".join(_TYPES)
                )
            if platform and kind in _OF_INDEX:
                raise UserError(f"annotations of an index have no platform: `{key}`")
            if platform:
                platform = parse_platform(platform).format_all()
            found.setdefault((kind, platform), {})[name] = value
    return Annotations(found)
