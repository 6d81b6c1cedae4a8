"""Settings of registries as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.oci.reference import parse_reference
from torana.plugins.registry.errors import InvalidRegistrySettingsError
from torana.plugins.registry.settings import RegistrySettings, read_settings

TEXT = """
[registry."docker.io"]
mirrors = ["mirror.example:5000/hub", "http://127.0.0.1:1/"]
[registry."mirror.example:5000"]
insecure = true
[registry."plain.example"]
http = true
ca = ["/ca.pem"]
[[registry."plain.example".keypair]]
key = "/key.pem"
cert = "/cert.pem"
"""


def endpoints(settings: RegistrySettings, name: str) -> list[tuple[str, tuple[str, ...]]]:
    reference = parse_reference(name)
    return [
        (endpoint.url(endpoint.schemes[0], f"{reference.path}/x"), endpoint.schemes)
        for endpoint in settings.endpoints(reference)
    ]


def test_mirrors_come_before_the_host(tmp_path: Path) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(TEXT)
    settings = read_settings(file)
    assert endpoints(settings, "alpine") == [
        ("https://mirror.example:5000/v2/hub/library/alpine/x?ns=docker.io", ("https", "http")),
        ("http://127.0.0.1:1/v2/library/alpine/x?ns=docker.io", ("http",)),
        ("https://registry-1.docker.io/v2/library/alpine/x", ("https",)),
    ]
    assert len(settings.endpoints(parse_reference("alpine"), for_push=True)) == 1
    plain = settings.host("plain.example")
    assert (plain.ca_files, plain.client_pairs) == (
        (Path("/ca.pem"),),
        ((Path("/key.pem"), Path("/cert.pem")),),
    )


@pytest.mark.parametrize(
    ("host", "schemes"),
    [
        ("localhost:5000", ("http",)),
        ("127.0.0.1:5000", ("http",)),
        ("localhost.example", ("https",)),
        ("example.org", ("https",)),
    ],
)
def test_only_the_loopback_is_plain_http_by_itself(host: str, schemes: tuple[str, ...]) -> None:
    assert endpoints(RegistrySettings(), f"{host}/x")[0][1] == schemes


def test_folders_of_certificates(tmp_path: Path) -> None:
    for name in ("ca.crt", "client.cert", "client.key", "note"):
        (tmp_path / name).touch()
    file = tmp_path / "registries.toml"
    file.write_text(f'[registry."a.b"]\ntlsconfigdir = ["{tmp_path}"]')
    host = read_settings(file).host("a.b")
    assert host.ca_files == (tmp_path / "ca.crt",)
    assert host.client_pairs == ((tmp_path / "client.key", tmp_path / "client.cert"),)


@pytest.mark.parametrize(
    "text",
    [
        "registry = 1",
        "[registry]\nx = 2",
        '[registry."a"]\nhttps = true',
        '[registry."a"]\nhttp = "yes"',
        '[registry."a"]\nkeypair = [{key = "k"}]',
        "no toml",
    ],
)
def test_mistakes_name_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(text)
    with pytest.raises(InvalidRegistrySettingsError, match=r"registries\.toml"):
        read_settings(file)


def test_a_named_file_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORANA_REGISTRIES", str(tmp_path / "none"))
    with pytest.raises(InvalidRegistrySettingsError, match="none"):
        read_settings()
    monkeypatch.delenv("TORANA_REGISTRIES")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert read_settings().host("x").mirrors == ()
