"""`BuildOptions`: the options that every frontend understands, read and checked once.

A client sends options as text to text; unknown ones are ignored, bad ones fail before anything is
loaded. What only one build language knows stays with its frontend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Final

from torana.core.errors import UserError
from torana.core.llb.ops import HostIP, LinuxResources, NetMode, Ulimit
from torana.core.oci.platform import InvalidPlatformError, Platform, parse_platform
from torana.core.oci.reference import InvalidReferenceError, parse_reference
from torana.core.records import dataclass
from torana.frontends.kit.values import csv_fields, parse_bool, parse_int
from torana.gateway.client.client import CacheImport

_BUILD_ARG: Final = "build-arg:"
_NET_MODES: Final = {"none": NetMode.NONE, "host": NetMode.HOST, "sandbox": NetMode.UNSET}
_ULIMITS: Final = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending "
    "stack".split()
)
_DEFAULT_SCANNER: Final = "docker/buildkit-syft-scanner:stable-1"
_MAX_CPU: Final = 8192


_LIMITS: Final = ("memory", "memswap", "cpushares", "cpuperiod", "cpuquota")
CLIENT_OPTIONS: Final = frozenset(
    (
        "add-hosts cache-from cache-imports cgroup-parent cmdline context contextkey contextsubdir "
        "cpusetcpus cpusetmems dockerfilekey filename force-network-mode frontend.caps hostname "
        "image-resolve-mode lock-update locked multi-platform no-cache override-copy-image "
        "platform requestid shm-size source target ulimit"
    ).split()
).union(_LIMITS)
"""What clients say to every frontend; those with a `:` in them are left out."""


class InvalidOptionError(UserError):
    """A frontend option has a value that it cannot have."""

    code = "OPTION_INVALID"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Checked options of a build."""

    target: str = ""
    platforms: tuple[Platform, ...] = ()  # normalised; empty: the build platform, implicitly
    multi_platform: bool = False
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: frozenset[str] | None = None  # lower-case stage names; empty: all; None: none
    cache_imports: tuple[CacheImport, ...] = ()
    resolve_mode: str = "default"
    extra_hosts: tuple[HostIP, ...] = ()
    shm_size_bytes: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    network: NetMode = NetMode.UNSET
    hostname: str = ""
    resources: LinuxResources | None = None
    sbom: Mapping[str, str] | None = None  # attributes of the scan; None: no scan

    def ignores_cache(self, stage: str) -> bool:
        """Say whether steps of the stage of that (lower-case) name run without cache."""
        return self.no_cache is not None and (not self.no_cache or stage in self.no_cache)


def parse_options(options: Mapping[str, str]) -> BuildOptions:
    """Read what a client sent.

    Raises:
        InvalidOptionError: a value is not of the option's form; the text names the option.
    """
    _refuse_removed(options)
    build_args = _prefixed(options, _BUILD_ARG)
    # In the order in which the original reads them, so that the same one is reported first.
    platforms = _platforms(options.get("platform", ""))
    resolve_mode = _resolve_mode(options.get("image-resolve-mode", ""))
    extra_hosts = _extra_hosts(options.get("add-hosts", ""))
    shm_size_bytes = _shm_size(options.get("shm-size", ""))
    ulimits = _ulimits(options.get("ulimit", ""))
    resources = _resources(options)
    network = _network(options.get("force-network-mode", ""))
    return BuildOptions(
        target=options.get("target", ""),
        platforms=platforms,
        multi_platform=_multi_platform(options, platforms),
        build_args=build_args,
        labels=_prefixed(options, "label:"),
        no_cache=_no_cache(options.get("no-cache")),
        cache_imports=_cache_imports(options),
        resolve_mode=resolve_mode,
        extra_hosts=extra_hosts,
        shm_size_bytes=shm_size_bytes,
        ulimits=ulimits,
        cgroup_parent=options.get("cgroup-parent", ""),
        network=network,
        hostname=build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or options.get("hostname", ""),
        resources=resources,
        sbom=_attestations(options),
    )


def _prefixed(options: Mapping[str, str], prefix: str) -> dict[str, str]:
    cut = len(prefix)
    return {key[cut:]: value for key, value in options.items() if key.startswith(prefix)}


def _refuse_removed(options: Mapping[str, str]) -> None:
    removed = 'support for "{}"{} was removed in BuildKit 0.11'
    if options.get("override-copy-image"):
        raise InvalidOptionError(removed.format("override-copy-image", ""))
    if parse_bool(options.get("build-arg:BUILDKIT_DISABLE_FILEOP", "")):
        raise InvalidOptionError(removed.format("BUILDKIT_DISABLE_FILEOP", " build-arg"))


def _platforms(text: str) -> tuple[Platform, ...]:
    platforms = []
    for part in text.split(",") if text else ():
        try:
            platforms.append(parse_platform(part).normalized())
        except InvalidPlatformError as err:
            raise InvalidOptionError(
                f"failed to parse target platform {part}: {err.message}",
                hint="platforms are OS/ARCH[/VARIANT], for example linux/arm64",
            ) from err
    return tuple(platforms)


def _multi_platform(options: Mapping[str, str], platforms: tuple[Platform, ...]) -> bool:
    text = options.get("build-arg:BUILDKIT_MULTI_PLATFORM") or options.get("multi-platform", "")
    if not text:
        return len(platforms) > 1
    wanted = parse_bool(text)
    if wanted is None:
        raise InvalidOptionError(f"invalid boolean value for multi-platform: {text}")
    if not wanted and len(platforms) > 1:
        raise InvalidOptionError(
            "conflicting config: returning multiple target platforms is not allowed"
        )
    return wanted


def _no_cache(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    return frozenset(text.lower().split(",")) if text else frozenset()


def _cache_imports(options: Mapping[str, str]) -> tuple[CacheImport, ...]:
    imports = []
    if text := options.get("cache-imports"):
        import json

        try:
            for entry in json.loads(text) or ():
                members = {key.lower(): value for key, value in entry.items()}
                imports.append(CacheImport(type=members["type"], attrs=members.get("attrs") or {}))
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise InvalidOptionError(
                f'failed to unmarshal cache-imports ("{text}"): {err}'
            ) from err
    references = options.get("cache-from")
    for reference in references.split(",") if references else ():
        imports.append(CacheImport(type="registry", attrs={"ref": reference}))
    return tuple(imports)


def _resolve_mode(text: str) -> str:
    if text not in ("", "default", "pull", "local"):
        raise InvalidOptionError(f"invalid image-resolve-mode: {text}")
    return text or "default"


def _network(text: str) -> NetMode:
    if text and text not in _NET_MODES:
        raise InvalidOptionError(f"invalid netmode {text}")
    return _NET_MODES[text] if text else NetMode.UNSET


def _extra_hosts(text: str) -> tuple[HostIP, ...]:
    hosts = []
    for entry in csv_fields(text) if text else ():
        host, equals, address = entry.lower().partition("=")
        if not equals:
            raise InvalidOptionError(
                f"failed to parse additional hosts: invalid key-value pair {entry}"
            )
        from torana.core.llb.addresses import host_address

        try:
            hosts.append(HostIP(host=host, ip=host_address(address)))
        except ValueError as err:
            raise InvalidOptionError(
                f"failed to parse additional hosts: failed to parse IP {address}"
            ) from err
    return tuple(hosts)


def _shm_size(text: str) -> int:
    try:
        return parse_int(text) if text else 0
    except ValueError as err:
        raise InvalidOptionError(f"failed to parse shm size: {err}") from err


def _ulimits(text: str) -> tuple[Ulimit, ...]:
    try:
        return tuple(_ulimit(entry) for entry in csv_fields(text)) if text else ()
    except ValueError as err:
        raise InvalidOptionError(f"failed to parse ulimit: {err}") from err


def _ulimit(entry: str) -> Ulimit:
    name, equals, limits = entry.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {entry}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    values = limits.split(":")
    if len(values) > 2:
        raise ValueError(
            f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        )
    soft, hard = parse_int(values[0]), parse_int(values[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        found = f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}"
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {found}")
    return Ulimit(name=name, soft=soft, hard=hard)


def _resources(options: Mapping[str, str]) -> LinuxResources | None:
    numbers = {name: _limit(options, name, "memswap") for name in _LIMITS}
    sets = {name: _cpuset(options, name) for name in ("cpusetcpus", "cpusetmems")}
    if not any(numbers.values()) and not any(sets.values()):
        return None
    return LinuxResources(
        memory=numbers["memory"],
        memory_swap=numbers["memswap"],
        cpu_shares=numbers["cpushares"],
        cpu_period=numbers["cpuperiod"],
        cpu_quota=numbers["cpuquota"],
        cpuset_cpus=sets["cpusetcpus"],
        cpuset_mems=sets["cpusetmems"],
    )


def _limit(options: Mapping[str, str], name: str, unlimited: str) -> int:
    text = options.get(name, "")
    if not text:
        return 0
    prefix = f"failed to parse resource limits: invalid {name} value: {text}"
    try:
        value = parse_int(text)
    except ValueError as err:
        raise InvalidOptionError(f"{prefix}: {err}") from err
    if value <= 0 and not (name == unlimited and value == -1):
        rule = "must be > 0 or -1" if name == unlimited else "must be > 0"
        raise InvalidOptionError(f"{prefix}: {rule}")
    return value


def _cpuset(options: Mapping[str, str], name: str) -> str:
    text = options.get(name, "")
    for element in text.split(",") if text else ():
        first, dash, last = element.partition("-")
        numbers = [part for part in (first, last if dash else first)]
        kind = "range" if dash else "element"
        valid = all(part.isascii() and part.isdigit() for part in numbers)
        if not valid or not int(numbers[0]) <= int(numbers[1]) <= _MAX_CPU:
            raise InvalidOptionError(
                f"failed to parse resource limits: invalid {name} value: {text}: "
                f'invalid cpuset {kind} "{element}"'
            )
    return text


def _attestations(options: Mapping[str, str]) -> dict[str, str] | None:
    """Give the attributes of the SBOM scan; provenance is left to the engine."""
    sbom: dict[str, str] | None = None
    for key in sorted(options):
        kind = _attestation_kind(key)
        if kind is None:
            continue
        if kind not in ("sbom", "provenance"):
            raise InvalidOptionError(f'unknown attestation type "{kind}"')
        attributes = {"generator": _DEFAULT_SCANNER}
        for entry in csv_fields(options[key]) if options[key] else ():
            name, _, value = entry.partition("=")
            attributes[name] = value
        if kind == "sbom":
            attributes["generator"] = _scanner(attributes["generator"])
            sbom = attributes
    return sbom


def _attestation_kind(key: str) -> str | None:
    for prefix in ("attest:", "build-arg:BUILDKIT_ATTEST_"):
        if key.startswith(prefix):
            return key.removeprefix(prefix).lower()
    return None


def _scanner(text: str) -> str:
    try:
        return str(parse_reference(text).with_default_tag())
    except InvalidReferenceError as err:
        raise InvalidOptionError(f"failed to parse sbom scanner {text}: {err.message}") from err
