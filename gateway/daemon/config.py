"""`Config`: what `toranad` was told, with the keys of buildkitd.toml.

Spec: reference of the daemon, section 3. `config.schema.json` says what a file may hold; what it
marks as unused is accepted and named in a warning, so that an existing buildkitd.toml works.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path, PurePath
from typing import Any, Final

from torana.core.errors import UserError
from torana.core.ops.exec.cdi import Devices
from torana.core.ops.exec.limits import StepLimits
from torana.core.ops.exec.network_files import DNSConfig
from torana.core.quantities import Size, parse_duration_s, parse_size
from torana.core.records import dataclass
from torana.core.rights import is_system_root
from torana.plugins.networks.cni import DEFAULT_CONFIG, DEFAULT_FOLDERS, BridgeSettings, CNISettings
from torana.plugins.schemas import first_problem, load_schema

_DAY_S = 86400.0


# Refused, not ignored: steps would reach the network past the policy that was asked for.
NO_PROXY_NETWORK: Final = "proxy network is not supported by this daemon"


class InvalidConfigError(UserError):
    """The configuration file is wrong; the text names the file and the key."""

    code = "CONFIG_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """Files in PEM form; with `ca`, clients must show a certificate that it signed."""

    cert: Path
    key: Path
    ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GCRule:
    """One rule of garbage collection; sizes may be shares of the disk, None is not limited."""

    all: bool = False
    filters: tuple[str, ...] = ()
    keep_duration_s: float = 0.0
    reserved: Size | None = None
    max_used: Size | None = None
    min_free: Size | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """`[worker.oci]`; None and empty mean that the worker finds out for itself."""

    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    snapshotter: str = "auto"
    runtime: str = ""
    network: str = "auto"
    cni: CNISettings = field(default_factory=CNISettings)
    max_parallelism: int = 0
    has_gc: bool = True
    reserved: Size | None = None
    max_used: Size | None = None
    min_free: Size | None = None
    gc_rules: tuple[GCRule, ...] = ()
    apparmor_profile: str | None = None  # of steps; None: that of the environment
    cgroup_parent: str = ""  # of steps that name none
    has_selinux: bool | None = None  # labels for steps; None: what the environment says
    step_limits: StepLimits | None = None  # None: those of the environment

    @property
    def runtime_name(self) -> str:
        """Give the runtime asked for; a path or BuildKit's own build of runc name it as well."""
        return PurePath(self.runtime).name.removeprefix("buildkit-")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig:
    """`[registry."HOST"]`; None leaves it to the default for that host."""

    mirrors: tuple[str, ...] = ()
    http: bool | None = None
    insecure: bool | None = None
    ca: tuple[Path, ...] = ()
    keypairs: tuple[tuple[Path, Path], ...] = ()  # key, certificate
    tls_folders: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontendConfig:
    """`[frontend."NAME"]`; None allows every repository."""

    is_enabled: bool = True
    allowed_repositories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that `toranad` can be told."""

    root: Path
    addresses: tuple[str, ...]
    debug_address: str = ""
    uid: int | None = None
    gid: int | None = None
    tls: TLSConfig | None = None
    may_be_open: bool = False  # TCP without client certificates is meant
    log_level: str = "info"
    log_format: str = "text"
    entitlements: frozenset[str] = frozenset()  # that builds may be granted, but for devices
    devices: Devices | None = None  # None: those of the environment
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    registries: Mapping[str, RegistryConfig] = field(default_factory=dict)
    frontends: Mapping[str, FrontendConfig] = field(default_factory=dict)
    dns: DNSConfig | None = None
    history_max_age_s: float = 2 * _DAY_S
    history_max_entries: int = 50
    unused: tuple[str, ...] = ()  # keys that were given and change nothing here

    @property
    def grantable(self) -> frozenset[str]:
        """What builds may be granted; devices, too, unless there are none by configuration."""
        has_devices = self.devices is None or bool(self.devices.folders)
        return self.entitlements | {"device"} if has_devices else self.entitlements - {"device"}


def default_root() -> Path:
    """Give the root that `torana` itself uses, so that both share one cache."""
    if root := os.environ.get("TORANA_ROOT"):
        return Path(root)
    if is_system_root():
        return Path("/var/lib/torana")
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(data) / "torana"


def default_address() -> str:
    """Give where `toranad` listens unless told otherwise."""
    if is_system_root():
        return "unix:///run/torana/toranad.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/tmp/torana-{os.geteuid()}"
    return f"unix://{runtime}/torana/toranad.sock"


def default_file() -> Path:
    """Give the configuration file that is read when there is one."""
    if is_system_root():
        return Path("/etc/torana/toranad.toml")
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "torana" / "toranad.toml"


def read_config(file: Path | None = None) -> Config:
    """Read `file`, or the default one if it is there.

    Raises:
        InvalidConfigError: it is missing, no TOML, or has wrong keys or values.
    """
    path = default_file() if file is None else file
    try:
        text = path.read_text()
    except FileNotFoundError:
        if file is not None:
            raise InvalidConfigError(f"configuration file not found: `{path}`") from None
        return parse_config("", str(path))
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidConfigError(f"{path}: cannot be read: {err}") from err
    return parse_config(text, str(path))


def parse_config(text: str, filename: str) -> Config:
    """Read the text of a configuration file.

    Raises:
        InvalidConfigError: it is no TOML, or has wrong keys or values.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise InvalidConfigError(f"{filename}: no TOML: {err}") from None
    unused = _check(document, filename)
    oci = document.get("worker", {}).get("oci", {})
    if oci.get("enabled") is False:
        raise InvalidConfigError(f"{filename}: worker.oci.enabled: there is no other worker")
    if document.get("proxyNetwork"):
        raise InvalidConfigError(f"{filename}: proxyNetwork: {NO_PROXY_NETWORK}")
    try:
        return _config(document, unused)
    except UserError as err:
        raise InvalidConfigError(f"{filename}: {err.message}", hint=err.hint) from err


def _config(document: Mapping[str, Any], unused: tuple[str, ...]) -> Config:
    grpc = document.get("grpc", {})
    history = document.get("history", {})
    log = document.get("log", {})
    level = log.get("level", "info")
    if document.get("debug") or document.get("trace"):
        level = "debug"
    return Config(
        root=Path(document["root"]) if "root" in document else default_root(),
        addresses=tuple(grpc.get("address", ())) or (default_address(),),
        debug_address=grpc.get("debugAddress", ""),
        uid=grpc.get("uid"),
        gid=grpc.get("gid"),
        tls=_tls(grpc.get("tls", {})),
        may_be_open=grpc.get("insecureTCP", False),
        log_level=level,
        log_format=log.get("format", "text"),
        entitlements=frozenset(document.get("insecure-entitlements", ())),
        devices=_devices(document["cdi"]) if "cdi" in document else None,
        worker=_worker(document.get("worker", {}).get("oci", {})),
        registries={host: _registry(raw) for host, raw in document.get("registry", {}).items()},
        frontends={name: _frontend(raw) for name, raw in document.get("frontend", {}).items()},
        dns=_dns(document.get("dns", {})),
        history_max_age_s=parse_duration_s(history.get("maxAge", "48h")),
        history_max_entries=history.get("maxEntries", 50),
        unused=unused,
    )


def _devices(raw: Mapping[str, Any]) -> Devices:
    if raw.get("disabled", False):
        return Devices()
    found = Devices.from_environment(os.environ)
    folders = tuple(map(Path, raw["specDirs"])) if "specDirs" in raw else found.folders
    return replace(found, folders=folders, auto_allowed=frozenset(raw.get("autoAllowed", ())))


def _tls(raw: Mapping[str, str]) -> TLSConfig | None:
    cert, key, ca = raw.get("cert"), raw.get("key"), raw.get("ca")
    if not cert and not key:
        if ca:
            raise InvalidConfigError("grpc.tls: `ca` needs `cert` and `key`")
        return None
    if not cert or not key:
        raise InvalidConfigError("you must specify key and cert file if one is specified")
    return TLSConfig(cert=Path(cert), key=Path(key), ca=Path(ca) if ca else None)


def _worker(raw: Mapping[str, Any]) -> WorkerConfig:
    return WorkerConfig(
        labels=raw.get("labels", {}),
        platforms=tuple(raw.get("platforms", ())),
        snapshotter=raw.get("snapshotter", "auto"),
        runtime=raw.get("binary", ""),
        network=raw.get("networkMode", "auto"),
        cni=_cni(raw),
        max_parallelism=raw.get("max-parallelism", 0),
        has_gc=raw.get("gc", True),
        reserved=_size(raw, "reservedSpace", "gckeepstorage"),
        max_used=_size(raw, "maxUsedSpace"),
        min_free=_size(raw, "minFreeSpace"),
        gc_rules=tuple(_gc_rule(rule) for rule in raw.get("gcpolicy", ())),
        apparmor_profile=raw.get("apparmor-profile"),
        cgroup_parent=raw.get("defaultCgroupParent", ""),
        has_selinux=raw.get("selinux"),
        step_limits=_step_limits(raw["stepLimits"]) if "stepLimits" in raw else None,
    )


def _cni(raw: Mapping[str, Any]) -> CNISettings:
    folders = (Path(raw["cniBinaryPath"]),) if "cniBinaryPath" in raw else DEFAULT_FOLDERS
    default = BridgeSettings()
    return CNISettings(
        config=Path(raw.get("cniConfigPath", DEFAULT_CONFIG)),
        folders=folders,
        bridge=BridgeSettings(
            name=raw.get("bridgeName", default.name),
            subnet=raw.get("bridgeSubnet", default.subnet),
        ),
    )


def _step_limits(raw: Mapping[str, Any]) -> StepLimits:
    memory = parse_size(raw.get("memory", 0))
    if memory.percent:
        raise InvalidConfigError("worker.oci.stepLimits.memory: no amount: a share of the disk")
    return StepLimits(
        pids=raw.get("pids", StepLimits().pids),
        memory_bytes=memory.size_bytes,
        cpus=float(raw.get("cpus", 0)),
    )


def _gc_rule(raw: Mapping[str, Any]) -> GCRule:
    return GCRule(
        all=raw.get("all", False),
        filters=tuple(raw.get("filters", ())),
        keep_duration_s=parse_duration_s(raw.get("keepDuration", 0)),
        reserved=_size(raw, "reservedSpace", "keepBytes"),
        max_used=_size(raw, "maxUsedSpace"),
        min_free=_size(raw, "minFreeSpace"),
    )


def _size(raw: Mapping[str, Any], key: str, old_key: str = "") -> Size | None:
    value = raw.get(key, raw.get(old_key))
    return None if value is None else parse_size(value)


def _registry(raw: Mapping[str, Any]) -> RegistryConfig:
    return RegistryConfig(
        mirrors=tuple(raw.get("mirrors", ())),
        http=raw.get("http"),
        insecure=raw.get("insecure"),
        ca=tuple(map(Path, raw.get("ca", ()))),
        keypairs=tuple((Path(pair["key"]), Path(pair["cert"])) for pair in raw.get("keypair", ())),
        tls_folders=tuple(map(Path, raw.get("tlsconfigdir", ()))),
    )


def _frontend(raw: Mapping[str, Any]) -> FrontendConfig:
    allowed = raw.get("allowedRepositories")
    return FrontendConfig(
        is_enabled=raw.get("enabled", True),
        allowed_repositories=None if allowed is None else tuple(allowed),
    )


def _dns(raw: Mapping[str, Any]) -> DNSConfig | None:
    if not raw:
        return None
    return DNSConfig(
        nameservers=tuple(raw.get("nameservers", ())),
        search=tuple(raw.get("searchDomains", ())),
        options=tuple(raw.get("options", ())),
    )


# Checking


def _check(document: Mapping[str, Any], filename: str) -> tuple[str, ...]:
    """Compare with the schema; gives the keys that have no effect."""
    if not document:
        return ()
    schema = load_schema(__package__, "config.schema.json")
    if (problem := first_problem(document, schema)) is not None:
        message, hint = problem
        raise InvalidConfigError(f"{filename}: {message}", hint=hint)
    return tuple(_unused(document, schema, schema, ""))


def _unused(value: Any, part: Any, schema: Any, path: str) -> Iterator[str]:
    """Walk document and schema side by side."""
    if part.get("$comment") == "unused":
        yield path
        return
    if "$ref" in part:
        yield from _unused(value, schema["$defs"][part["$ref"].rpartition("/")[2]], schema, path)
        return
    if not isinstance(value, dict):
        return
    properties = part.get("properties", {})
    others = part.get("additionalProperties")
    for key, inner in value.items():
        below = properties.get(key, others)
        if isinstance(below, dict):
            yield from _unused(inner, below, schema, f"{path}.{key}" if path else key)
