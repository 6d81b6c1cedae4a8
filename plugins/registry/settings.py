"""`RegistrySettings`: how each registry is reached, as data.

The file has the tables of buildkitd.toml, `[registry."HOST"]` with `mirrors`, `http`, `insecure`,
`ca`, `keypair` and `tlsconfigdir`, so that one file can serve both.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Final

from torana.core.oci.reference import ImageReference
from torana.core.records import dataclass
from torana.core.rights import is_system_root
from torana.plugins.registry.errors import InvalidRegistrySettingsError

_FILE: Final = "TORANA_REGISTRIES"
_HUB: Final = "docker.io"
_HUB_SERVER: Final = "registry-1.docker.io"
_TYPES: Final = {
    "mirrors": list,
    "http": bool,
    "insecure": bool,
    "ca": list,
    "keypair": list,
    "tlsconfigdir": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    """How one host is reached; `http` None means only on the loopback."""

    mirrors: tuple[str, ...] = ()  # host[:port][/prefix], tried in order before the host
    http: bool | None = None
    insecure: bool = False  # no check of certificates, and http if there is no TLS
    ca_files: tuple[Path, ...] = ()
    client_pairs: tuple[tuple[Path, Path], ...] = ()  # key, certificate

    @classmethod
    def make(
        cls,
        *,
        mirrors: tuple[str, ...] = (),
        http: bool | None = None,
        insecure: bool | None = None,
        ca: tuple[Path, ...] = (),
        keypairs: tuple[tuple[Path, Path], ...] = (),
        tls_folders: tuple[Path, ...] = (),
    ) -> HostSettings:
        """Put settings together with what lies in folders in the form of `/etc/docker/certs.d`.

        There `*.crt` are authorities, `*.cert` are client certificates with `*.key` beside them.
        """
        authorities, pairs = list(ca), list(keypairs)
        for folder in tls_folders:
            authorities += sorted(folder.glob("*.crt"))
            for certificate in sorted(folder.glob("*.cert")):
                pairs.append((certificate.with_suffix(".key"), certificate))
        return cls(
            mirrors=mirrors,
            http=http,
            insecure=bool(insecure),
            ca_files=tuple(authorities),
            client_pairs=tuple(pairs),
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server to ask for a repository; `prefix` is what comes before the repository's path."""

    host: str
    schemes: tuple[str, ...]  # to be tried in order
    settings: HostSettings
    prefix: str = ""
    mirror_of: str = ""  # the host whose images it has; empty for that host itself

    def url(self, scheme: str, path: str) -> str:
        """Give the URL of `path` below the API."""
        server = _HUB_SERVER if self.host == _HUB else self.host
        query = f"?ns={self.mirror_of}" if self.mirror_of else ""
        return f"{scheme}://{server}/v2/{self.prefix}{path}{query}"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Settings by host, defaults for all others."""

    hosts: Mapping[str, HostSettings] = field(default_factory=dict)

    def host(self, host: str) -> HostSettings:
        return self.hosts.get(host, HostSettings())

    def endpoints(self, reference: ImageReference, *, for_push: bool = False) -> list[Endpoint]:
        """Give the servers to ask in order: mirrors, then the host itself; to push, that alone."""
        host = reference.domain
        settings = self.host(host)
        found: list[Endpoint] = []
        for mirror in () if for_push else settings.mirrors:
            name, _, prefix = mirror.partition("://")[2 if "://" in mirror else 0].partition("/")
            own = self.host(name)
            if mirror.startswith("http://"):
                own = replace(own, http=True)
            prefix = prefix.strip("/")
            found.append(
                Endpoint(name, _schemes(name, own), own, f"{prefix}/" if prefix else "", host)
            )
        return [*found, Endpoint(host, _schemes(host, settings), settings)]


def _schemes(host: str, settings: HostSettings) -> tuple[str, ...]:
    is_http = settings.http
    if is_http is None:
        is_http = _is_loopback(host) and not settings.ca_files and not settings.insecure
    if is_http:
        return ("http",)
    return ("https", "http") if settings.insecure else ("https",)


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def default_file() -> Path:
    """Give where settings are looked for: `$TORANA_REGISTRIES`, else beside other settings."""
    if named := os.environ.get(_FILE):
        return Path(named)
    if is_system_root():
        return Path("/etc/torana/registries.toml")
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "torana" / "registries.toml"


def read_settings(file: Path | None = None) -> RegistrySettings:
    """Read `file`, or the default one if it is there.

    Raises:
        InvalidRegistrySettingsError: it is missing although named, no TOML, or has wrong values.
    """
    path = file or default_file()
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if file is not None or _FILE in os.environ:
            raise InvalidRegistrySettingsError(f"no settings of registries: `{path}`") from None
        return RegistrySettings()
    except (OSError, ValueError) as err:
        raise InvalidRegistrySettingsError(f"{path}: cannot be read: {err}") from err
    tables = document.get("registry", {})
    if not isinstance(tables, dict):
        raise InvalidRegistrySettingsError(f"{path}: registry: must be a table")
    return RegistrySettings({host: _host(raw, f"{path}: {host}") for host, raw in tables.items()})


def _host(raw: Any, where: str) -> HostSettings:
    if not isinstance(raw, dict):
        raise InvalidRegistrySettingsError(f"{where}: must be a table")
    for key, value in raw.items():
        kind = _TYPES.get(key)
        if kind is None:
            known = ", ".join(f"`{name}`" for name in _TYPES)
            raise InvalidRegistrySettingsError(f"{where}: unknown key: `{key}`", hint=known)
        if not isinstance(value, kind):
            raise InvalidRegistrySettingsError(f"{where}: {key}: must be a {kind.__name__}")
    try:
        pairs = tuple((Path(pair["key"]), Path(pair["cert"])) for pair in raw.get("keypair", ()))
        return HostSettings.make(
            mirrors=tuple(map(str, raw.get("mirrors", ()))),
            http=raw.get("http"),
            insecure=raw.get("insecure"),
            ca=tuple(map(Path, raw.get("ca", ()))),
            keypairs=pairs,
            tls_folders=tuple(map(Path, raw.get("tlsconfigdir", ()))),
        )
    except (KeyError, TypeError) as err:
        raise InvalidRegistrySettingsError(f"{where}: wrong value: {err}") from None
