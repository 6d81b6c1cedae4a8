"""Options of a build: what is accepted, what is refused and in which words."""

from __future__ import annotations

import pytest

from torana.core.llb.ops import HostIP, NetMode, Ulimit
from torana.core.oci.platform import Platform
from torana.frontends.kit.options import InvalidOptionError, parse_options
from torana.frontends.kit.values import csv_fields, parse_bool, parse_int


def test_nothing_asked() -> None:
    options = parse_options({})
    assert options.platforms == ()
    assert not options.multi_platform
    assert options.no_cache is None
    assert options.resources is None
    assert options.sbom is None


def test_platforms_are_normalised_and_several_make_a_map() -> None:
    options = parse_options({"platform": "linux/x86_64,linux/arm"})
    assert options.platforms == (
        Platform(os="linux", architecture="amd64"),
        Platform(os="linux", architecture="arm", variant="v7"),
    )
    assert options.multi_platform


def test_build_argument_wins_over_multi_platform_option() -> None:
    given = {"multi-platform": "false", "build-arg:BUILDKIT_MULTI_PLATFORM": "1"}
    assert parse_options(given).multi_platform


def test_no_cache_names_are_lower_case() -> None:
    options = parse_options({"no-cache": "A,zz"})
    assert options.ignores_cache("a")
    assert not options.ignores_cache("b")
    assert parse_options({"no-cache": ""}).ignores_cache("")


def test_cache_sources_from_both_options() -> None:
    imports = parse_options(
        {"cache-from": "a,b", "cache-imports": '[{"Type":"gha","Attrs":{"scope":"x"}}]'}
    ).cache_imports
    assert [(entry.type, dict(entry.attrs)) for entry in imports] == [
        ("gha", {"scope": "x"}),
        ("registry", {"ref": "a"}),
        ("registry", {"ref": "b"}),
    ]


def test_limits() -> None:
    options = parse_options(
        {
            "ulimit": "nofile=1:2,core=-1",
            "add-hosts": "A=::0001",
            "force-network-mode": "host",
            "memory": "5",
            "memswap": "-1",
            "cpusetcpus": "0-3,5",
        }
    )
    assert options.ulimits == (Ulimit("nofile", 1, 2), Ulimit("core", -1, -1))
    assert options.extra_hosts == (HostIP("a", "::1"),)
    assert options.network is NetMode.HOST
    assert options.resources is not None
    assert (options.resources.memory, options.resources.memory_swap) == (5, -1)
    assert options.resources.cpuset_cpus == "0-3,5"


def test_sbom_attributes() -> None:
    assert parse_options({"attest:sbom": ""}).sbom == {
        "generator": "docker.io/docker/buildkit-syft-scanner:stable-1"
    }
    given = {"build-arg:BUILDKIT_ATTEST_SBOM": "generator=x,DEPTH=2"}
    assert parse_options(given).sbom == {"generator": "docker.io/library/x:latest", "DEPTH": "2"}
    assert parse_options({"attest:provenance": "mode=max"}).sbom is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"multi-platform": "x"}, "invalid boolean value for multi-platform: x"),
        ({"override-copy-image": "x"}, 'support for "override-copy-image" was removed'),
        ({"image-resolve-mode": "x"}, "invalid image-resolve-mode: x"),
        ({"ulimit": "nofile=3:2"}, "limit must be less than or equal to hard limit: 3 > 2"),
        ({"ulimit": "nofile=1:2:3"}, "can only have up to two, `soft[:hard]`"),
        ({"ulimit": "nofile"}, "failed to parse ulimit: invalid ulimit argument: nofile"),
        ({"cpusetmems": "1,x"}, 'invalid cpusetmems value: 1,x: invalid cpuset element "x"'),
        ({"cache-imports": "{"}, 'failed to unmarshal cache-imports ("{")'),
        ({"cpushares": "0"}, "invalid cpushares value: 0: must be > 0"),
        ({"add-hosts": "a=fe80::1%eth0"}, "additional hosts: failed to parse IP fe80::1%eth0"),
    ],
)
def test_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        parse_options(given)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", [""]),
        ("a,b", ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('"a""b"', ['a"b']),
        ('a"b,c', ['a"b', "c"]),
        ("a,", ["a", ""]),
        ('"open', ["open"]),
    ],
)
def test_csv_fields(text: str, fields: list[str]) -> None:
    assert csv_fields(text) == fields


def test_numbers_and_booleans() -> None:
    assert parse_int("-7") == -7
    with pytest.raises(ValueError, match="value out of range"):
        parse_int(str(1 << 63))
    assert [parse_bool(text) for text in ("T", "0", "yes", "")] == [True, False, None, None]
