"""Reading annotations: types, platforms, and whose word counts."""

from __future__ import annotations

import pytest

from torana.core.errors import UserError
from torana.core.oci.platform import parse_platform
from torana.plugins.exporters.annotations import read_annotations

AMD, ARM = parse_platform("linux/amd64"), parse_platform("linux/arm64")


def test_types_and_platforms() -> None:
    found = read_annotations(
        {
            "annotation.a": "all",
            "annotation-manifest[linux/arm64].a": "arm",
            "annotation-index.with.dots": "x",
            "annotation-manifest-descriptor.m": "d",
            "annotation-index-descriptor.i": "d",
            "name": "no annotation",
            "annotations.a": "none either",
            "annotation.": "nor this",
        }
    )
    assert found.manifest(AMD) == {"a": "all"}
    assert found.manifest(ARM) == {"a": "arm"}
    assert found.index == {"with.dots": "x"}
    assert found.manifest_descriptor(ARM) == {"m": "d"}
    assert found.index_descriptor == {"i": "d"}


def test_later_sources_count_more() -> None:
    found = read_annotations({"annotation.a": "1", "annotation.b": "1"}, {"annotation.a": "2"})
    assert found.manifest(AMD) == {"a": "2", "b": "1"}


def test_aliases_of_platforms() -> None:
    found = read_annotations({"annotation[linux/x86_64].a": "1"})
    assert found.manifest(AMD) == {"a": "1"}
    found.check([AMD], has_index=False, oci_types=True)
    with pytest.raises(UserError, match="no platform linux/amd64 found in source"):
        found.check([ARM], has_index=False, oci_types=True)
    with pytest.raises(UserError, match="cannot parse platform"):
        read_annotations({"annotation[a/b/c/d].a": "1"})
