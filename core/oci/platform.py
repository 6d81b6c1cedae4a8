"""`Platform`: operating system and processor that something runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A platform as in OCI indexes and `pb.Platform`.

    Spec: OCI image specification, Image Index, `platform`.
    """

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form, members in the order of the OCI Go types."""
        out: dict[str, Any] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            out["os.version"] = self.os_version
        if self.os_features:
            out["os.features"] = list(self.os_features)
        if self.variant:
            out["variant"] = self.variant
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Platform:
        """Read the JSON form; missing members are empty."""
        return cls(
            os=str(raw.get("os", "")),
            architecture=str(raw.get("architecture", "")),
            variant=str(raw.get("variant", "")),
            os_version=str(raw.get("os.version", "")),
            os_features=tuple(raw.get("os.features") or ()),
        )
