"""Options of the command line, as frontends know them."""

from __future__ import annotations

from typing import Any

import pytest

from torana.cli.exports import parse_output, with_annotations
from torana.cli.frontendoptions import annotation_attributes, frontend_options, size_bytes
from torana.core.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"target": "a"}, {"target": "a"}),
        (
            {"platform": ("linux/arm64,linux/amd64", "linux/386")},
            "linux/arm64,linux/amd64,linux/386",
        ),
        ({"labels": ("a=b=c", "d")}, {"label:a": "b=c", "label:d": ""}),
        ({"no_cache": True, "no_cache_filter": ("x",)}, {"no-cache": ""}),
        ({"no_cache_filter": ("a,b", "c")}, {"no-cache": "a,b,c"}),
        ({"pull": True}, {"image-resolve-mode": "pull"}),
        ({"network": "host"}, {"force-network-mode": "host"}),
        ({"network": "default"}, {}),
        ({"add_hosts": ("a=1.2.3.4", "b:[::1]")}, {"add-hosts": "a=1.2.3.4,b=::1"}),
        ({"add_hosts": ("a=1.2.3.4,::1",)}, {"add-hosts": "a=1.2.3.4,a=::1"}),
        ({"shm_size": "1.5k"}, {"shm-size": "1536"}),
        ({"ulimits": ("nofile=1:2", "core=-1")}, {"ulimit": "nofile=1:2,core=-1:-1"}),
        ({"cgroup_parent": "/x"}, {"cgroup-parent": "/x"}),
        ({"attests": ("type=sbom,generator=g",)}, {"attest:sbom": "generator=g"}),
        (
            {"sbom": "true", "provenance": "max"},
            {"attest:sbom": "", "attest:provenance": "mode=max"},
        ),
        ({"sbom": "false"}, {}),
        ({"opts": ("a=b=c",)}, {"a": "b=c"}),
    ],
)
def test_options(given: dict[str, Any], expected: Any) -> None:
    found = frontend_options(given)
    assert found == ({"platform": expected} if isinstance(expected, str) else expected)


def test_build_arguments_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "x")
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    found = frontend_options({"build_args": ("GIVEN", "ABSENT", "A=", "B=b=c")})
    assert found == {
        "build-arg:GIVEN": "x",
        "build-arg:A": "",
        "build-arg:B": "b=c",
        "build-arg:SOURCE_DATE_EPOCH": "5",
    }


@pytest.mark.parametrize(
    "given",
    [
        {"build_args": ("=x",)},
        {"network": "x"},
        {"add_hosts": ("a",)},
        {"add_hosts": ("=1.2.3.4",)},
        {"add_hosts": ("a=b",)},
        {"shm_size": "x"},
        {"ulimits": ("nofile",)},
        {"ulimits": ("nofile=a",)},
        {"attests": ("generator=x",)},
        {"opts": ("x",)},
    ],
)
def test_wrong_options_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        frontend_options(given)


def test_sizes_are_powers_of_1024() -> None:
    assert size_bytes("64m", "--shm-size") == 64 << 20
    assert size_bytes("2GiB", "--shm-size") == 2 << 30
    assert size_bytes("7", "--shm-size") == 7


def test_annotations_name_their_place() -> None:
    given = ("a=b", "index:c=d", "manifest[linux/amd64],index-descriptor:e=f=g")
    assert annotation_attributes(given) == {
        "annotation.a": "b",
        "annotation-index.c": "d",
        "annotation-manifest[linux/amd64].e": "f=g",
        "annotation-index-descriptor.e": "f=g",
    }
    for wrong in ("a", "x:a=b", "index[linux/amd64]:a=b"):
        with pytest.raises(UsageError):
            annotation_attributes((wrong,))


def test_annotations_go_to_images_only() -> None:
    exports = [parse_output("type=image,name=x"), parse_output("type=local,dest=out")]
    image, local = with_annotations(exports, ("a=b",))
    assert image.attrs == {"name": "x", "annotation.a": "b"}
    assert not local.attrs
    with pytest.raises(UsageError, match="needs an image"):
        with_annotations(exports[1:], ("a=b",))
