"""Options of the command line as frontends know them, as `docker buildx` translates them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from torana.core.errors import UsageError

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NETWORKS: Final = ("default", "host", "none")
_ATTESTATIONS: Final = ("provenance", "sbom")
HOST_NETWORK: Final = "network.host"  # the entitlement that `--network host` grants


def frontend_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Give frontend options for the options of `torana build`; what was not given is left out.

    Raises:
        UsageError: one is malformed.
    """
    out = {key: options[key] for key in ("target",) if options.get(key)}
    if platforms := options.get("platform"):
        out["platform"] = ",".join(platforms)
    out |= _build_args(options.get("build_args", ()))
    for text in options.get("labels", ()):
        name, _, value = text.partition("=")
        out[f"label:{name}"] = value
    if options.get("no_cache"):
        out["no-cache"] = ""
    elif filters := options.get("no_cache_filter"):
        out["no-cache"] = ",".join(filters)
    if options.get("locked"):
        out["locked"] = "true"
    if options.get("pull"):
        out["image-resolve-mode"] = "pull"
    out |= _process_options(options)
    out |= _attestations(options)
    for text in options.get("opts", ()):
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"invalid --opt: must be KEY=VALUE: `{text}`")
        out[key] = value
    return out


def _build_args(texts: Iterable[str]) -> dict[str, str]:
    """A name alone takes its value from the environment, and is left out without one."""
    found = {}
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        found["build-arg:SOURCE_DATE_EPOCH"] = epoch
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"invalid --build-arg: no name: `{text}`")
        if equals:
            found[f"build-arg:{name}"] = value
        elif name in os.environ:
            found[f"build-arg:{name}"] = os.environ[name]
    return found


def _process_options(options: Mapping[str, Any]) -> dict[str, str]:
    """What holds for all processes of a build."""
    out = {}
    network = options.get("network") or "default"
    if network not in _NETWORKS:
        raise UsageError(f"invalid --network: must be default, host or none: `{network}`")
    if network != "default":
        out["force-network-mode"] = network
    if hosts := options.get("add_hosts"):
        out["add-hosts"] = ",".join(entry for text in hosts for entry in _hosts(text))
    if size := options.get("shm_size"):
        out["shm-size"] = str(size_bytes(size, "--shm-size"))
    if limits := options.get("ulimits"):
        out["ulimit"] = ",".join(_ulimit(text) for text in limits)
    if parent := options.get("cgroup_parent"):
        out["cgroup-parent"] = parent
    return out


def _hosts(text: str) -> list[str]:
    """Read `NAME=IP[,IP]` or the older `NAME:IP`; an address may be in brackets."""
    from ipaddress import ip_address

    separator = "=" if "=" in text else ":"
    name, _, addresses = text.partition(separator)
    found = []
    for address in addresses.split(","):
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        try:
            found.append(f"{name}={ip_address(address)}")
        except ValueError as err:
            raise UsageError(f"invalid --add-host: must be NAME=ADDRESS: `{text}`") from err
    if not name:
        raise UsageError(f"invalid --add-host: must be NAME=ADDRESS: `{text}`")
    return found


def size_bytes(text: str, option: str) -> int:
    """Read a size such as `64m`; units are powers of 1024.

    Raises:
        UsageError: it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"invalid {option}: must be a size such as 64m: `{text}`")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def _ulimit(text: str) -> str:
    name, equals, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    numbers = (soft, hard) if colon else (soft,)
    if not equals or not name or not all(re.fullmatch(r"-1|[0-9]+", part) for part in numbers):
        raise UsageError(f"invalid --ulimit: must be NAME=SOFT[:HARD]: `{text}`")
    return f"{name}={soft}:{hard if colon else soft}"


def _attestations(options: Mapping[str, Any]) -> dict[str, str]:
    """Read `--attest type=KIND,...` with its short forms `--sbom` and `--provenance`."""
    from torana.cli.exports import parse_fields

    found: dict[str, str] = {}
    for text in options.get("attests", ()):
        fields = parse_fields(text, "--attest")
        kind = fields.pop("type", "")
        if not kind:
            raise UsageError(
                "invalid --attest: type is required", hint="for example `--attest type=sbom`"
            )
        if kind not in _ATTESTATIONS:
            raise UsageError(
                f"invalid --attest: unknown type: `{kind}`", hint="types are provenance and sbom"
            )
        found[kind] = _attributes(fields)
    if (sbom := options.get("sbom")) is not None:
        found["sbom"] = _short(sbom, "generator")
    if (provenance := options.get("provenance")) is not None:
        found["provenance"] = _short(provenance, "mode")
    return {
        f"attest:{kind}": attributes
        for kind, attributes in found.items()
        if "disabled=true" not in attributes.split(",")
    }


def _attributes(fields: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in fields.items())


def _short(text: str, key: str) -> str:
    """Read `true`, `false`, one value for `key`, or attributes."""
    match text.lower():
        case "true" | "1" | "":
            return ""
        case "false" | "0":
            return "disabled=true"
    return text if "=" in text else f"{key}={text}"


def annotation_attributes(texts: Sequence[str]) -> dict[str, str]:
    """Give attributes of image exporters for `--annotation [TYPE[PLATFORM],...:]KEY=VALUE`.

    Raises:
        UsageError: no value, or an unknown type.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"invalid --annotation: must be [TYPE:]KEY=VALUE: `{text}`")
        kinds, colon, key = name.rpartition(":")
        for kind in kinds.split(",") if colon else ("",):
            found[f"{_annotation_kind(kind, text)}.{key}"] = value
    return found


def _annotation_kind(text: str, whole: str) -> str:
    if not text:
        return "annotation"
    match = re.fullmatch(
        r"(?:(?:index|index-descriptor)|(?:manifest|manifest-descriptor)(?:\[[\w/.-]+\])?)", text
    )
    if match is None:
        raise UsageError(
            f"invalid --annotation: unknown type `{text}`: `{whole}`",
            hint="types are manifest, index, manifest-descriptor and index-descriptor",
        )
    return f"annotation-{text}"
