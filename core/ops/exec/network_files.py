"""Texts of `/etc/hosts` and `/etc/resolv.conf` for containers. Pure, but for the host's own file.

Spec: reference of exec, section 8.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from torana.core.llb.addresses import host_address
from torana.core.llb.ops import HostIP
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.records import dataclass

_HOST_FILE: Final = Path("/etc/resolv.conf")
_SYSTEMD_FILE: Final = Path("/run/systemd/resolve/resolv.conf")
_SYSTEMD_STUB: Final = "127.0.0.53"
_PUBLIC_IPV4: Final = ("8.8.8.8", "8.8.4.4")
_PUBLIC_IPV6: Final = ("2001:4860:4860::8888", "2001:4860:4860::8844")


@dataclass(frozen=True, slots=True, kw_only=True)
class DNSConfig:
    """Settings of the worker; each list that is not empty replaces what the host has."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hosts_text(hostname: str, extra: Sequence[HostIP]) -> str:
    """Give the hosts file.

    Raises:
        InvalidExecOpError: an address of `extra` cannot be parsed.
    """
    lines = [f"127.0.0.1\tlocalhost {hostname}", "::1\tlocalhost ip6-localhost ip6-loopback"]
    for entry in extra:
        try:
            address = host_address(entry.ip)
        except ValueError:
            raise InvalidExecOpError(f"failed to parse IP of extra host: `{entry.ip}`") from None
        lines.append(f"{address}\t{entry.host}")
    return "".join(f"{line}\n" for line in lines)


def host_resolv_conf() -> str:
    """Read the host's file, or systemd's real one where the host has only its stub; else empty."""
    text = _read(_HOST_FILE)
    if _nameservers(text) == [_SYSTEMD_STUB]:
        return _read(_SYSTEMD_FILE) or text
    return text


def resolv_conf_text(
    host: str, dns: DNSConfig | None = None, *, keeps_loopback: bool, ipv6: bool = False
) -> str:
    """Give the resolver's file from the host's text.

    `keeps_loopback` is for containers that share the host's network, in which a name server at a
    loopback address is reachable. With no server left, public ones are used.
    """
    dns = dns or DNSConfig()
    lines = [line for line in host.splitlines() if not _is_replaced(line, dns)]
    servers = list(dns.nameservers) or _nameservers(host)
    if not dns.nameservers and not keeps_loopback:
        servers = [server for server in servers if not _is_loopback(server)]
    if not servers:
        servers = [*_PUBLIC_IPV4, *(_PUBLIC_IPV6 if ipv6 else ())]
    lines += [f"nameserver {server}" for server in servers]
    if dns.search:
        lines.append(f"search {' '.join(dns.search)}")
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}")
    return "".join(f"{line}\n" for line in lines)


def has_only_loopback_servers(text: str) -> bool:
    """Say whether no name server of the file can be reached from another network namespace."""
    return all(map(_is_loopback, _nameservers(text)))


def _is_replaced(line: str, dns: DNSConfig) -> bool:
    keyword = line.split(maxsplit=1)[0] if line.strip() else ""
    return (
        keyword == "nameserver"
        or (keyword in ("search", "domain") and bool(dns.search))
        or (keyword == "options" and bool(dns.options))
    )


def _nameservers(text: str) -> list[str]:
    rows = [line.split() for line in text.splitlines()]
    return [row[1] for row in rows if len(row) > 1 and row[0] == "nameserver"]


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
