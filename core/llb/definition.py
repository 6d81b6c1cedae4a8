"""`Definition`: a whole graph as bytes, with metadata and the places it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from torana.core.errors import Position, SourceExcerpt, SourceRange
from torana.core.llb.ops import Op, OpMetadata
from torana.core.oci.digest import Digest
from torana.core.records import dataclass


@dataclass(frozen=True, slots=True)
class Range:
    """Lines of a source file, both ends included; columns 0 where unknown."""

    start: Position
    end: Position


@dataclass(frozen=True, slots=True)
class Location:
    """Ranges in the source file with number `source_index`; may be empty."""

    source_index: int = 0
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Locations:
    locations: tuple[Location, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class SourceInfo:
    """A source file: its text, and the definition that loads it. Identity counts, not equality."""

    filename: str
    data: bytes = b""
    language: str = ""
    definition: Definition | None = None


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Places of ops in source files."""

    locations: Mapping[str, Locations] = field(default_factory=dict)
    infos: tuple[SourceInfo, ...] = ()

    def excerpts(self, digest: Digest) -> tuple[SourceExcerpt, ...]:
        """Give what an error of the op `digest` is about, one excerpt per location."""
        found = self.locations.get(digest, Locations()).locations
        return tuple(
            SourceExcerpt(
                filename=info.filename,
                data=info.data,
                ranges=tuple(SourceRange(info.filename, r.start, r.end) for r in location.ranges),
                language=info.language,
                definition=info.definition,
            )
            for location in found
            if 0 <= location.source_index < len(self.infos)
            for info in (self.infos[location.source_index],)
        )


@dataclass(frozen=True, slots=True)
class Definition:
    """A graph: bytes of each op, inputs before users, the terminal op last.

    Bytes are kept as they came. An empty `ops` stands for scratch.

    Spec: `pb.Definition`.
    """

    ops: tuple[bytes, ...] = ()
    metadata: Mapping[str, OpMetadata] = field(default_factory=dict)
    source: SourceMap | None = None

    def encode(self) -> bytes:
        """Give the bytes of `pb.Definition`; map entries are sorted."""
        from torana.core.llb.codec import encode

        return encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Definition:
        """Read `pb.Definition`; ops are not looked into.

        Raises:
            InvalidLLBError: not such a message.
        """
        from torana.core.llb.codec import decode

        return decode(Definition, data)

    def digests(self) -> list[Digest]:
        """Give the digest of each op, in order."""
        return [Digest.of(op) for op in self.ops]

    def decoded(self) -> dict[Digest, Op]:
        """Read all ops, the terminal one included, in order.

        Raises:
            InvalidLLBError: an op cannot be read.
        """
        from torana.core.llb.codec import decode

        return {Digest.of(data): decode(Op, data) for data in self.ops}
