"""`Descriptor`: media type, digest and size of a blob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """Reference to a blob.

    Spec: OCI image specification, Content Descriptors.
    """

    media_type: str
    digest: Digest
    size: int  # bytes
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None  # base64
    platform: Platform | None = None
    artifact_type: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form, members in the order BuildKit writes them."""
        out: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.urls:
            out["urls"] = list(self.urls)
        if self.annotations:
            out["annotations"] = dict(sorted(self.annotations.items()))
        if self.data is not None:
            out["data"] = self.data
        if self.platform is not None:
            out["platform"] = self.platform.to_dict()
        if self.artifact_type is not None:
            out["artifactType"] = self.artifact_type
        return out

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Descriptor:
        """Read the JSON form.

        Raises:
            InvalidDigestError: the digest is malformed.
            KeyError: a required member is missing.
        """
        platform = raw.get("platform")
        return cls(
            media_type=str(raw["mediaType"]),
            digest=Digest.parse(raw["digest"]),
            size=int(raw["size"]),
            urls=tuple(raw.get("urls") or ()),
            annotations=dict(raw.get("annotations") or {}),
            data=raw.get("data"),
            platform=None if platform is None else Platform.from_dict(platform),
            artifact_type=raw.get("artifactType"),
        )
