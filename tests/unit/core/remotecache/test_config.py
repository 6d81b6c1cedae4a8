"""The format of exported caches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torana.core.oci.digest import Digest
from torana.core.remotecache.config import (
    NO_PARENT,
    NO_TIME,
    CacheConfig,
    CacheConfigError,
    CacheInput,
    CacheLayer,
    CacheRecord,
    CacheResult,
    ChainedResult,
    in_order,
    read_time,
    time_text,
)

A, B, C = (Digest.of_text(text) for text in "abc")

digests = st.text("abcdef", max_size=3).map(Digest.of_text)
times = st.one_of(
    st.just(NO_TIME), st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds / 10**6)
)


@st.composite
def configs(draw: st.DrawFn) -> CacheConfig:
    """Any config that makes sense: what is named comes before its user, then all is shuffled."""
    layers = [
        CacheLayer(draw(digests), draw(st.integers(NO_PARENT, number - 1)))
        for number in range(draw(st.integers(0, 5)))
    ]
    some_layers = st.integers(0, len(layers) - 1) if layers else st.nothing()
    results = st.lists(st.builds(CacheResult, some_layers, times), max_size=2)
    chained = st.builds(
        ChainedResult, st.lists(some_layers, min_size=1, max_size=3).map(tuple), times
    )
    records: list[CacheRecord] = []
    for number in range(draw(st.integers(0, 6))):
        links = st.builds(
            CacheInput, st.integers(0, number - 1), st.sampled_from(["", str(A), str(B)])
        )
        inputs = st.lists(st.lists(links, min_size=1, max_size=3).map(tuple), max_size=2)
        records.append(
            CacheRecord(
                digest=draw(digests),
                inputs=tuple(draw(inputs)) if number else (),
                results=tuple(draw(results)) if layers else (),
                chains=tuple(draw(st.lists(chained, max_size=1))) if layers else (),
            )
        )
    return CacheConfig(layers=tuple(layers), records=tuple(records))


@settings(max_examples=40)
@given(configs())
def test_documents_are_read_as_they_were_written(config: CacheConfig) -> None:
    assert CacheConfig.from_json(config.to_json()) == config


@settings(max_examples=40)
@given(configs())
def test_sorting_again_changes_nothing(config: CacheConfig) -> None:
    once = config.sorted()
    once.check()
    assert CacheConfig.from_json(once.to_json()) == once
    assert sorted(map(record_text(config), range(len(config.records)))) == sorted(
        map(record_text(once), range(len(once.records)))
    )


def record_text(config: CacheConfig) -> Any:
    """Give what describes a record by what it names, not by numbers."""
    texts: dict[int, str] = {}
    for number in in_order(config.records):
        record = config.records[number]
        inputs = [
            sorted((texts[each.link], each.selector) for each in alternatives)
            for alternatives in record.inputs
        ]
        results = [(config.chain(each.layer), each.created) for each in record.results]
        chains = [
            ([config.layers[layer].blob for layer in each.layers], each.created)
            for each in record.chains
        ]
        texts[number] = str(Digest.of_text(repr((record.digest, inputs, results, chains))))
    return texts.__getitem__


@settings(max_examples=40)
@given(st.randoms(use_true_random=False), configs())
def test_the_order_of_records_does_not_matter(random: Any, config: CacheConfig) -> None:
    order = list(range(len(config.records)))
    random.shuffle(order)
    at = {old: new for new, old in enumerate(order)}
    shuffled = [
        CacheRecord(
            digest=config.records[old].digest,
            inputs=tuple(
                tuple(CacheInput(at[each.link], each.selector) for each in alternatives)
                for alternatives in config.records[old].inputs
            ),
            results=config.records[old].results,
            chains=config.records[old].chains,
        )
        for old in order
    ]
    other = CacheConfig(layers=config.layers, records=tuple(shuffled))
    texts = [sorted(map(record_text(each), order)) for each in (config, other.sorted())]
    assert texts[0] == texts[1]


def test_the_document_is_buildkits() -> None:
    config = CacheConfig(
        layers=(CacheLayer(A), CacheLayer(B, 0)),
        records=(
            CacheRecord(digest=C),
            CacheRecord(
                digest=A,
                inputs=((CacheInput(0, str(B)),),),
                results=(CacheResult(1, 1700000000.25),),
                chains=(ChainedResult((0, 1)),),
            ),
        ),
    )
    assert config.to_json().decode() == (
        f'{{"layers":[{{"blob":"{A}","parent":-1}},{{"blob":"{B}"}}],'
        f'"records":[{{"digest":"{C}"}},'
        '{"layers":[{"layer":1,"createdAt":"2023-11-14T22:13:20.25Z"}],'
        '"chains":[{"layers":[0,1],"createdAt":"0001-01-01T00:00:00Z"}],'
        f'"digest":"{A}","inputs":[[{{"selector":"{B}","link":0}}]]}}]}}'
    )


def test_a_layer_without_parent_lies_on_the_first() -> None:
    text = json.dumps({"layers": [{"blob": A, "parent": -1}, {"blob": B}]})
    assert CacheConfig.from_json(text.encode()).chain(1) == [A, B]


def test_times_of_nanoseconds_are_read() -> None:
    assert read_time("2023-11-14T23:13:20.123456789+01:00") == 1700000000.123456
    assert time_text(1700000000.0) == "2023-11-14T22:13:20Z"


WRONG: dict[str, Any] = {
    "no object": [],
    "layers are no list": {"layers": 3},
    "layer without blob": {"layers": [{"parent": -1}]},
    "blob is no digest": {"layers": [{"blob": "sha256:12", "parent": -1}]},
    "parent is no number": {"layers": [{"blob": A, "parent": "x"}]},
    "no such parent": {"layers": [{"blob": A, "parent": 7}]},
    "negative parent": {"layers": [{"blob": A, "parent": -2}]},
    "layer on itself": {"layers": [{"blob": A, "parent": 0}]},
    "layers in a circle": {"layers": [{"blob": A, "parent": 1}, {"blob": B, "parent": 0}]},
    "records are no list": {"records": {"a": 1}},
    "record is no object": {"records": [3]},
    "record without digest": {"records": [{}]},
    "no such record": {"records": [{"digest": A, "inputs": [[{"link": 1}]]}]},
    "input without records": {"records": [{"digest": A, "inputs": [[]]}]},
    "input is null": {"records": [{"digest": A, "inputs": [None]}]},
    "record from itself": {"records": [{"digest": A, "inputs": [[{"link": 0}]]}]},
    "records in a circle": {
        "records": [
            {"digest": A, "inputs": [[{"link": 1}]]},
            {"digest": B, "inputs": [[{"link": 0}]]},
        ]
    },
    "no such layer": {
        "records": [{"digest": A, "layers": [{"layer": 0, "createdAt": "2023-11-14T22:13:20Z"}]}]
    },
    "no such layer in a chain": {
        "layers": [{"blob": A, "parent": -1}],
        "records": [
            {"digest": A, "chains": [{"layers": [1], "createdAt": "2023-11-14T22:13:20Z"}]}
        ],
    },
    "no time": {
        "layers": [{"blob": A, "parent": -1}],
        "records": [{"digest": A, "layers": [{"layer": 0, "createdAt": "yesterday"}]}],
    },
    "time without zone": {
        "layers": [{"blob": A, "parent": -1}],
        "records": [{"digest": A, "layers": [{"layer": 0, "createdAt": "2023-11-14T22:13:20"}]}],
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(CacheConfigError):
        CacheConfig.from_json(json.dumps(WRONG[name]).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"layers":1e999}'])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(CacheConfigError):
        CacheConfig.from_json(data)


def test_deep_chains_are_no_problem() -> None:
    count = 5_000
    config = CacheConfig(
        layers=tuple(CacheLayer(A, number - 1) for number in range(count)),
        records=tuple(
            CacheRecord(digest=A, inputs=((CacheInput(number + 1),),))
            if number + 1 < count
            else CacheRecord(digest=B)
            for number in range(count)
        ),
    )
    assert CacheConfig.from_json(config.to_json()) == config
