"""Caches inside of image configs: records alone, whose layers are those of the image.

Spec: the cache reference, section 6.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from torana.core.cache.layers import Layer
from torana.core.oci.digest import Digest
from torana.core.oci.image import compact_json
from torana.core.remotecache.chains import ExportedCache
from torana.core.remotecache.config import (
    CacheConfig,
    CacheConfigError,
    CacheLayer,
    CacheRecord,
    CacheResult,
    ChainedResult,
    read_records,
    record_members,
)

MEMBER: Final = "moby.buildkit.cache.v0"


def inline_records(cache: ExportedCache, image: Sequence[Layer]) -> tuple[CacheRecord, ...]:
    """Give the records of `cache` with layers by their number in an image, base first.

    Results that have other layers are left out; without any result there are no records.
    """
    places: dict[Digest, list[int]] = {}
    for blob, layer in cache.layers.items():
        places[blob] = [
            number
            for number, each in enumerate(image)
            if each.descriptor.digest == blob or each.diff_id == layer.diff_id
        ]
    records = [_placed(record, cache.config, places) for record in cache.config.records]
    has_results = any(record.results or record.chains for record in records)
    return tuple(records) if has_results else ()


def _placed(
    record: CacheRecord, config: CacheConfig, places: Mapping[Digest, Sequence[int]]
) -> CacheRecord:
    results, chains = [], []
    for result in record.results:
        found = [places[blob] for blob in config.chain(result.layer)]
        if all(number in each for number, each in enumerate(found)):
            results.append(CacheResult(len(found) - 1, result.created))
        elif all(found):
            chains.append(ChainedResult(tuple(each[-1] for each in found)))
    return replace(record, results=tuple(results), chains=tuple(chains))


def to_member(records: Sequence[CacheRecord]) -> str:
    """Give the value of the config's member: base64 of JSON."""
    return base64.b64encode(compact_json(record_members(records))).decode()


def read_member(value: Any, blobs: Sequence[Digest]) -> CacheConfig:
    """Read the value of the config's member of an image with these layers, base first.

    Raises:
        CacheConfigError: it is malformed, or does not fit the layers.
    """
    try:
        raw = json.loads(base64.b64decode(value, validate=True))
        if not isinstance(raw, list):
            raise TypeError("no list of records")
    except (ValueError, TypeError, RecursionError, binascii.Error) as err:
        raise CacheConfigError(f"invalid inline cache: {err}") from None
    layers = tuple(CacheLayer(blob, number - 1) for number, blob in enumerate(blobs))
    config = CacheConfig(layers=layers, records=read_records(raw))
    config.check()
    return config
