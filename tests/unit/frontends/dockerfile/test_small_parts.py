"""Paths, ports, modes, owners, durations, mounts and image configs of Dockerfiles."""

from __future__ import annotations

import json

import pytest

from torana.core.errors import BuildFileError
from torana.core.oci.platform import Platform
from torana.frontends.dockerfile import paths
from torana.frontends.dockerfile.actions import Owner
from torana.frontends.dockerfile.checks import (
    check_signal,
    looks_secret,
    parse_mode,
    parse_owner,
)
from torana.frontends.dockerfile.durations import parse_duration
from torana.frontends.dockerfile.lint import MAINTAINER_DEPRECATED as RULE
from torana.frontends.dockerfile.mounts import parse_mount
from torana.frontends.dockerfile.ports import parse_ports
from torana.frontends.dockerfile.quoting import go_duration, go_quote
from torana.frontends.kit.imageconfig import ImageConfig
from torana.frontends.kit.lint import InvalidCheckError, Linter, parse_check


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("", "/w/"),
        (".", "/w/"),
        ("a", "/w/a"),
        ("a/", "/w/a/"),
        ("./a/.", "/w/a/."),
        ("/x//y/", "/x/y/"),
        ("../up", "/up"),
    ],
)
def test_destination(path: str, result: str) -> None:
    assert paths.destination("/w", path, "linux") == result


def test_work_dir() -> None:
    assert paths.work_dir("/a", "b/../c", "linux") == "/a/c"
    assert paths.work_dir("/a", "/x/../y/", "linux") == "/x/../y/"
    assert paths.work_dir("/a", "", "linux") == "/a"
    assert paths.work_dir("/a", "C:\\new\\dir", "windows") == "/new/dir"
    assert paths.stored_work_dir("/new/dir", "windows") == "\\new\\dir"


@pytest.mark.parametrize("path", ["d:/x", "//srv/x", "C:"])
def test_windows_paths_stay_on_the_system_drive(path: str) -> None:
    with pytest.raises(BuildFileError, match="removing drive letter"):
        paths.work_dir("/", path, "windows")


def test_sources_stay_inside() -> None:
    assert paths.source("../../etc/passwd", "linux") == "/etc/passwd"


def test_ports() -> None:
    found = parse_ports("127.0.0.1:8000-8002:80-82/TCP")
    assert found.ports() == ("80/tcp", "81/tcp", "82/tcp")
    assert found.has_odd_case
    assert found.has_host_part
    assert parse_ports("53/udp").ports() == ("53/udp",)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("80/foo", 'invalid port: "80/foo": invalid proto: foo'),
        ("65536", "invalid containerPort: 65536"),
        ("9-8", "invalid containerPort: 9-8"),
        ("1.2.3:1:2", "invalid IP address: 1.2.3"),
    ],
)
def test_bad_ports(word: str, message: str) -> None:
    with pytest.raises(BuildFileError) as caught:
        parse_ports(word).ports()
    assert caught.value.message == message


def test_modes_and_owners() -> None:
    assert parse_mode("0755") == 0o755
    assert parse_mode("u=rwX,go-w") == "u=rwX,go-w"
    with pytest.raises(BuildFileError, match="invalid syntax"):
        parse_mode("u~x")
    assert parse_owner("") is None
    assert parse_owner("root:7") == Owner(0, 7)
    assert parse_owner("-1") == Owner(4294967295)
    assert parse_owner("app:") == Owner("app", 0)


@pytest.mark.parametrize("text", ["9", "TERM", "sigterm", "RTMIN+15", "rtmax-1"])
def test_signals(text: str) -> None:
    check_signal(text)


@pytest.mark.parametrize("text", ["0", "FOO", "RTMIN+16", ""])
def test_bad_signals(text: str) -> None:
    with pytest.raises(BuildFileError, match="invalid signal"):
        check_signal(text)


def test_secret_names() -> None:
    assert looks_secret("DB_PASSWORD")
    assert not looks_secret("PUBLIC_KEY")
    assert not looks_secret("KEYBOARD")


@pytest.mark.parametrize(
    ("text", "nanoseconds", "shown"),
    [
        ("1m30s", 90_000_000_000, "1m30s"),
        ("500ms", 500_000_000, "500ms"),
        ("1.5h", 5_400_000_000_000, "1h30m0s"),
        ("0", 0, "0s"),
        ("1500us", 1_500_000, "1.5ms"),
    ],
)
def test_durations(text: str, nanoseconds: int, shown: str) -> None:
    assert parse_duration(text) == nanoseconds
    assert go_duration(nanoseconds) == shown


def test_mount_fields_are_checked_against_the_type_known_so_far() -> None:
    mount = parse_mount("type=cache,target=/c,uid=1,mode=0700,sharing=LOCKED", str)
    assert (mount.uid, mount.mode, mount.sharing) == (1, 0o700, "locked")
    with pytest.raises(BuildFileError, match="unexpected key 'size' for mount type 'bind'"):
        parse_mount("size=1m,type=tmpfs,target=/t", str)
    assert parse_mount("type=tmpfs,target=/t,size=1.5k", str).size_bytes == 1536


def test_image_config_is_written_as_go_does() -> None:
    raw = {
        "os": "linux",
        "architecture": "amd64",
        "created": "2024-01-02T03:04:05.500Z",
        "unknown": 1,
        "config": {"Labels": {"b": "<&>", "a": ""}, "Env": None, "StopTimeout": 3},
        "history": [{"created": "2024-01-02T03:04:05.000Z", "created_by": "x"}],
    }
    image = ImageConfig.parse(json.dumps(raw).encode())
    assert image.to_json().decode() == (
        '{"created":"2024-01-02T03:04:05.5Z","architecture":"amd64","os":"linux",'
        '"rootfs":{"type":"","diff_ids":null},'
        '"history":[{"created":"2024-01-02T03:04:05Z","created_by":"x"}],'
        '"config":{"Labels":{"a":"","b":"\\u003c\\u0026\\u003e"}}}'
    )


def test_image_env_is_replaced_in_place() -> None:
    image = ImageConfig.empty(Platform(os="linux", architecture="amd64"))
    image.set_env("A", "1")
    image.set_env("PATH", "/p")
    assert image.config["Env"] == ["PATH=/p", "A=1"]


def test_copies_of_images_are_independent() -> None:
    image = ImageConfig.empty(Platform(os="linux", architecture="amd64"))
    other = image.copy()
    other.set_env("A", "1")
    other.add_history("x", layer=True)
    assert len(image.config["Env"]) == 1
    assert not image.history


def test_lint_options() -> None:
    config = parse_check("skip=MaintainerDeprecated, X ; error=true;experimental=all")
    assert config.fails
    linter = Linter(config)
    linter.report(RULE, "x")
    assert not linter.findings
    linter = Linter()
    linter.report(RULE, "x", comments=("check=skip=all",))
    assert not linter.findings
    linter.report(RULE, "x", comments=("check=nonsense",))
    assert [finding.short for finding in linter.findings] == ["MaintainerDeprecated: x"]
    with pytest.raises(InvalidCheckError):
        parse_check("error=x")


def test_quoting() -> None:
    assert go_quote('a"\n\x01é') == '"a\\"\\n\\x01é"'
