"""`CacheConfig`: what an exported cache says: layers, and records that lead to them.

A record is a key of the solver. It names the records that its inputs may be, and what it gave: the
topmost of a chain of layers, or layers one by one. Numbers in it count records and layers.

Spec: the cache reference, section 5 (media type `application/vnd.buildkit.cacheconfig.v0`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from torana.core.errors import CorruptError
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.image import compact_json
from torana.core.records import dataclass

CONFIG_TYPE: Final = "application/vnd.buildkit.cacheconfig.v0"
NO_PARENT: Final = -1
NO_TIME: Final = -62135596800.0  # Go's zero time, in seconds since the epoch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_FRACTION: Final = re.compile(r"(\.\d{6})\d+")


class CacheConfigError(CorruptError):
    """An exported cache makes no sense."""

    code = "CACHE_CONFIG_INVALID"


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """A blob on top of layer number `parent`."""

    blob: Digest
    parent: int = NO_PARENT


@dataclass(frozen=True, slots=True)
class CacheInput:
    """One of the records that an input may be, seen through a selector (empty: none)."""

    link: int
    selector: str = ""


@dataclass(frozen=True, slots=True)
class CacheResult:
    """A result: a layer and all those below it."""

    layer: int
    created: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class ChainedResult:
    """A result of layers that are named one by one, base first."""

    layers: tuple[int, ...]
    created: float = NO_TIME  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """A key: digest and output of an op, or of a content, hashed together."""

    digest: Digest
    inputs: tuple[tuple[CacheInput, ...], ...] = ()  # per input: what it may be
    results: tuple[CacheResult, ...] = ()
    chains: tuple[ChainedResult, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """An exported cache. `check` says whether its numbers make sense."""

    layers: tuple[CacheLayer, ...] = ()
    records: tuple[CacheRecord, ...] = ()

    def check(self) -> None:
        """Refuse numbers that name nothing, and layers or records that lead to themselves.

        Raises:
            CacheConfigError: there are such.
        """
        _check_layers(self.layers)
        for number, record in enumerate(self.records):
            for alternatives in record.inputs:
                if not alternatives:
                    raise CacheConfigError(f"invalid empty input for record {number}")
                for each in alternatives:
                    _check_number(each.link, self.records, "record")
            named = [result.layer for result in record.results]
            for layer in [*named, *(each for chain in record.chains for each in chain.layers)]:
                _check_number(layer, self.layers, "layer")
        for _ in in_order(self.records):
            pass

    def chain(self, layer: int) -> list[Digest]:
        """Give the blobs of a layer and those below it, base first."""
        found: list[Digest] = []
        while layer != NO_PARENT:
            found.append(self.layers[layer].blob)
            layer = self.layers[layer].parent
        return found[::-1]

    def sorted(self) -> CacheConfig:
        """Give the same in BuildKit's order, so that equal caches are equal bytes."""
        old_layers = sorted(
            range(len(self.layers)), key=lambda n: (self.layers[n].blob, self.layers[n].parent)
        )
        layer_at = {old: new for new, old in enumerate(old_layers)} | {NO_PARENT: NO_PARENT}
        old_records = sorted(range(len(self.records)), key=lambda n: self._rank(self.records[n]))
        record_at = {old: new for new, old in enumerate(old_records)}
        layers = [
            replace(self.layers[old], parent=layer_at[self.layers[old].parent])
            for old in old_layers
        ]
        records = [_renumbered(self.records[old], layer_at, record_at) for old in old_records]
        return CacheConfig(layers=tuple(layers), records=tuple(records))

    def _rank(self, record: CacheRecord) -> tuple[Any, ...]:
        by_input = (
            sorted((each.selector, self.records[each.link].digest) for each in alternatives)
            for alternatives in record.inputs
        )
        return record.digest, len(record.inputs), [(len(known), known) for known in by_input]

    def to_json(self) -> bytes:
        """Give the document."""
        out: dict[str, Any] = {}
        if self.layers:
            out["layers"] = [_layer_members(layer) for layer in self.layers]
        if self.records:
            out["records"] = record_members(self.records)
        return compact_json(out)

    @classmethod
    def from_json(cls, data: bytes) -> CacheConfig:
        """Read and check a document.

        Raises:
            CacheConfigError: it is none.
        """
        try:
            raw = json.loads(data)
            layers = tuple(
                CacheLayer(Digest.parse(layer["blob"]), _number(layer.get("parent", 0)))
                for layer in raw.get("layers") or ()
            )
            records = read_records(raw.get("records") or ())
        except CacheConfigError:
            raise
        except _MALFORMED as err:
            raise CacheConfigError(f"invalid cache config: {_reason(err)}") from None
        config = cls(layers=layers, records=records)
        config.check()
        return config


_MALFORMED: Final = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
    InvalidDigestError,
)  # fmt: skip


def record_members(records: Iterable[CacheRecord]) -> list[dict[str, Any]]:
    """Give records as JSON values, members in the order of the Go type."""
    found = []
    for record in records:
        out: dict[str, Any] = {}
        if record.results:
            out["layers"] = [
                {"layer": each.layer, "createdAt": time_text(each.created)}
                for each in record.results
            ]
        if record.chains:
            out["chains"] = [
                {"layers": list(each.layers), "createdAt": time_text(each.created)}
                for each in record.chains
            ]
        out["digest"] = str(record.digest)
        if record.inputs:
            out["inputs"] = [
                [
                    {"selector": each.selector, "link": each.link}
                    if each.selector
                    else {"link": each.link}
                    for each in alternatives
                ]
                for alternatives in record.inputs
            ]
        found.append(out)
    return found


def read_records(raw: Sequence[Mapping[str, Any]]) -> tuple[CacheRecord, ...]:
    """Read records from JSON values; their numbers are not checked.

    Raises:
        CacheConfigError: they are malformed.
    """
    try:
        return tuple(_record(each) for each in raw)
    except _MALFORMED as err:
        raise CacheConfigError(f"invalid cache config: {_reason(err)}") from None


def _record(raw: Mapping[str, Any]) -> CacheRecord:
    return CacheRecord(
        digest=Digest.parse(raw["digest"]),
        inputs=tuple(
            tuple(
                CacheInput(_number(each["link"]), str(each.get("selector") or ""))
                for each in alternatives or ()
            )
            for alternatives in raw.get("inputs") or ()
        ),
        results=tuple(
            CacheResult(_number(each["layer"]), read_time(each["createdAt"]))
            for each in raw.get("layers") or ()
        ),
        chains=tuple(
            ChainedResult(tuple(map(_number, each["layers"])), read_time(each["createdAt"]))
            for each in raw.get("chains") or ()
        ),
    )


def in_order(records: Sequence[CacheRecord]) -> Iterator[int]:
    """Give the numbers of records, inputs before what is made from them.

    Raises:
        CacheConfigError: one is made from itself.
    """
    entered: set[int] = set()
    done: set[int] = set()
    for root in range(len(records)):
        pending = [root]
        while pending:
            number = pending[-1]
            if number in done:
                pending.pop()
                continue
            links = [each.link for alternatives in records[number].inputs for each in alternatives]
            missing = [link for link in links if link not in done]
            if not missing:
                pending.pop()
                done.add(number)
                yield number
                continue
            if number in entered:
                raise CacheConfigError(f"invalid looping record {number}")
            entered.add(number)
            pending += missing


def read_time(text: str) -> float:
    """Read RFC 3339; gives seconds since the epoch, microseconds at best.

    Raises:
        ValueError: it is no time.
    """
    moment = datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", text))
    if moment.tzinfo is None:
        raise ValueError(f"time without zone: {text}")
    return (moment - _EPOCH) / timedelta(seconds=1)


def time_text(seconds: float) -> str:
    """Give RFC 3339 in UTC with as much of a fraction as there is."""
    moment = datetime.fromtimestamp(seconds, UTC)
    text = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    return text.rstrip("0").rstrip(".") + "Z"


def _check_layers(layers: Sequence[CacheLayer]) -> None:
    done: set[int] = set()
    for start in range(len(layers)):
        seen: set[int] = set()
        layer = start
        while layer not in done and layer != NO_PARENT:
            if layer in seen:
                raise CacheConfigError(f"invalid looping layer {layer}")
            seen.add(layer)
            layer = layers[layer].parent
            if layer != NO_PARENT:
                _check_number(layer, layers, "layer")
        done |= seen


def _check_number(number: int, known: Sequence[object], kind: str) -> None:
    if not 0 <= number < len(known):
        raise CacheConfigError(f"invalid {kind} index {number}")


def _renumbered(
    record: CacheRecord, layer_at: Mapping[int, int], record_at: Mapping[int, int]
) -> CacheRecord:
    return CacheRecord(
        digest=record.digest,
        inputs=tuple(
            tuple(
                sorted(
                    (CacheInput(record_at[each.link], each.selector) for each in alternatives),
                    key=lambda each: (each.link, each.selector),
                )
            )
            for alternatives in record.inputs
        ),
        results=tuple(CacheResult(layer_at[each.layer], each.created) for each in record.results),
        chains=tuple(
            ChainedResult(tuple(layer_at[layer] for layer in each.layers), each.created)
            for each in record.chains
        ),
    )


def _layer_members(layer: CacheLayer) -> dict[str, Any]:
    # Go leaves out what is zero: a layer without `parent` lies on layer 0.
    members: dict[str, Any] = {"blob": str(layer.blob)}
    if layer.parent:
        members["parent"] = layer.parent
    return members


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"no number: {value!r:.40}")
    return value


def _reason(err: BaseException) -> str:
    if isinstance(err, KeyError):
        return f"no {err}"
    return str(err) or type(err).__name__
