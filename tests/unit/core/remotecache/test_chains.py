"""What is exported becomes a config."""

from __future__ import annotations

import json
from typing import Any

from torana.core.cache.layers import Layer
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest
from torana.core.remotecache.chains import CacheChains
from torana.core.remotecache.config import CacheLayer
from torana.core.remotecache.inline import inline_records, read_member, to_member
from torana.core.remotecache.manifest import ManifestForm, config_descriptor, image_layer
from torana.core.solver.export import ExportedLink, ExportedResult


def name(text: str) -> str:
    return str(Digest.of_text(text))


def layer(text: str, *, plain: str = "") -> Layer:
    return Layer(
        descriptor=Descriptor(
            media_type="application/vnd.oci.image.layer.v1.tar+gzip",
            digest=Digest.of_text(text),
            size=len(text),
        ),
        diff_id=Digest.of_text(plain or f"plain {text}"),
        created=1700000000.5,
        description=f"RUN {text}",
    )


def result(*layers: Layer, created: float = 1.0) -> list[ExportedResult]:
    return [ExportedResult(created, tuple(layers))]


def link(record: Any, selector: str | None = None) -> list[ExportedLink]:
    assert record is not None
    return [ExportedLink(record, selector)]


def test_chains_share_layers() -> None:
    chains = CacheChains()
    a, b, c = layer("a"), layer("b"), layer("c")
    root = chains.add(name("root"), [], [])
    chains.add(name("one"), [link(root)], result(a, b))
    chains.add(name("two"), [link(root)], result(a, c))
    exported = chains.exported()
    exported.config.check()
    assert len(exported.config.layers) == 3
    assert {tuple(exported.config.chain(n)) for n in range(3)} == {
        (a.descriptor.digest,),
        (a.descriptor.digest, b.descriptor.digest),
        (a.descriptor.digest, c.descriptor.digest),
    }


def test_a_record_that_comes_again_is_the_same() -> None:
    chains = CacheChains()
    root, content = (chains.add(name(text), [], []) for text in ("root", "content"))
    first = chains.add(name("one"), [link(root)], [])
    again = chains.add(name("one"), [[*link(root), *link(content)]], result(layer("a")))
    assert again is first
    config = chains.exported().config
    (one,) = (record for record in config.records if record.inputs)
    assert len(one.inputs[0]) == 2
    assert one.results


def test_records_that_turn_out_equal_become_one() -> None:
    chains = CacheChains()
    one, two = (chains.add(name(text), [], []) for text in ("one", "two"))
    by_one = chains.add(name("op"), [link(one)], result(layer("old"), created=1.0))
    by_two = chains.add(name("op"), [link(two)], result(layer("new"), created=2.0))
    above = chains.add(name("above"), [link(by_two)], [])
    chains.add(name("op"), [[*link(one), *link(two)]], [])
    # Whoever still has the other one means the same.
    assert chains.add(name("more"), [link(by_one)], []) is not None
    assert chains.add(name("more"), [link(by_two)], []) is not None
    assert above is not None
    config = chains.exported().config
    config.check()
    assert sorted(record.digest for record in config.records) == sorted(
        name(text) for text in ("one", "two", "op", "above", "more")
    )
    (op,) = (record for record in config.records if record.digest == name("op"))
    assert [config.chain(each.layer) for each in op.results] == [[Digest.of_text("new")]]


def test_other_selectors_are_other_records() -> None:
    chains = CacheChains()
    root = chains.add(name("root"), [], [])
    one = chains.add(name("op"), [link(root, name("x"))], [])
    assert chains.add(name("op"), [link(root, name("y"))], []) is not one
    assert len(chains.exported().config.records) == 3


def test_nothing_is_made_from_itself() -> None:
    chains = CacheChains()
    root = chains.add(name("root"), [], [])
    lower = chains.add(name("op"), [link(root)], [])
    upper = chains.add(name("op"), [link(lower)], [])
    # Another build found that what comes out is what went in.
    chains.add(name("op"), [[*link(root), *link(lower), *link(upper)]], [])
    chains.exported().config.check()


def test_random_records_and_lost_inputs_are_left_out() -> None:
    chains = CacheChains()
    assert chains.add("random:12", [], []) is None
    assert chains.add(name("op"), [[]], []) is None
    assert chains.exported().config.to_json() == b"{}"


def test_equal_exports_are_equal_bytes() -> None:
    def export(texts: str) -> bytes:
        chains = CacheChains()
        root = chains.add(name("root"), [], [])
        for text in texts:
            chains.add(name(text), [link(root)], result(layer("base"), layer(text)))
        return chains.exported().config.to_json()

    assert export("abc") == export("cab")


def test_results_in_an_image_are_told_by_its_layers() -> None:
    chains = CacheChains()
    a, b, c = layer("a"), layer("b", plain="same"), layer("c")
    root = chains.add(name("root"), [], [])
    chains.add(name("prefix"), [link(root)], result(a, b, created=2.0))
    chains.add(name("apart"), [link(root)], result(c))
    chains.add(name("elsewhere"), [link(root)], result(a, layer("other")))
    image = [a, layer("b in zstd", plain="same"), c]
    records = inline_records(chains.exported(), image)
    found = {
        record.digest: (
            [each.layer for each in record.results],
            [each.layers for each in record.chains],
        )
        for record in records
    }
    assert found[Digest.of_text("prefix")] == ([1], [])
    assert found[Digest.of_text("apart")] == ([], [(2,)])
    assert found[Digest.of_text("elsewhere")] == ([], [])
    blobs = [each.descriptor.digest for each in image]
    config = read_member(to_member(records), blobs)
    assert config.records == records
    assert config.layers == tuple(CacheLayer(blob, n - 1) for n, blob in enumerate(blobs))


def test_a_cache_of_other_layers_is_not_put_into_an_image() -> None:
    chains = CacheChains()
    root = chains.add(name("root"), [], [])
    chains.add(name("op"), [link(root)], result(layer("a")))
    assert inline_records(chains.exported(), [layer("b")]) == ()


def test_manifests_describe_layers() -> None:
    config = config_descriptor(b"{}")
    one = layer("a")
    image = json.loads(ManifestForm().to_json([one], config))
    assert image["config"]["mediaType"] == "application/vnd.buildkit.cacheconfig.v0"
    found = image_layer(Descriptor.from_dict(image["layers"][0]))
    assert found is not None
    assert (found.diff_id, found.created, found.description) == (
        one.diff_id,
        one.created,
        one.description,
    )
    assert found.blob == one.descriptor
    index = json.loads(ManifestForm(is_image=False, oci_types=False).to_json([one], config))
    assert [entry["mediaType"] for entry in index["manifests"]] == [
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.buildkit.cacheconfig.v0",
    ]
