"""EXPOSE: `[[ip:]host:]port[-port][/proto]` to the ports that an image config lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torana.core.errors import BuildFileError

_PROTOCOLS: Final = frozenset(("tcp", "udp", "sctp"))
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Exposed:
    """The ports of one word, `80/tcp` each, and what is odd about how they were written."""

    ports: tuple[str, ...]
    has_odd_case: bool
    has_host_part: bool


def parse_ports(word: str) -> Exposed:
    """Read one word of EXPOSE.

    Raises:
        BuildFileError: no port, or a part that is not what its place asks for.
    """
    spec, slash, protocol = word.partition("/")
    if not spec:
        raise BuildFileError(f'invalid port: "{word}": no port specified')
    lowered = protocol.lower() or "tcp"
    if lowered not in _PROTOCOLS:
        raise BuildFileError(f'invalid port: "{word}": invalid proto: {protocol}')
    address, host, container = _split(spec)
    if not container:
        raise BuildFileError(f'invalid port: "{word}": no port specified')
    first, last = _range(container, "containerPort")
    if address:
        _check_address(address)
    if host:
        host_first, host_last = _range(host, "hostPort")
        if host_last - host_first != last - first and first != last:
            raise BuildFileError(
                f"invalid ranges specified for container and host Ports: {container} and {host}"
            )
    ports = tuple(f"{port}/{lowered}" for port in range(first, last + 1))
    return Exposed(ports, bool(slash) and protocol != lowered, bool(address or host))


def _split(spec: str) -> tuple[str, str, str]:
    """Split at the last two colons; an IPv6 address may be in brackets."""
    rest, colon, container = spec.rpartition(":")
    if not colon:
        return "", "", spec
    address, colon, host = rest.rpartition(":")
    if not colon:
        return "", rest, container
    return address.removeprefix("[").removesuffix("]"), host, container


def _range(text: str, name: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = [_port(part) for part in ((first, last) if dash else (first, first))]
    begin, end = numbers
    if begin is None or end is None or begin > end:
        raise BuildFileError(f"invalid {name}: {text}")
    return begin, end


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or int(text) > _MAX_PORT:
        return None
    return int(text)


def _check_address(text: str) -> None:
    from ipaddress import ip_address

    try:
        ip_address(text.partition("%")[0])
    except ValueError as err:
        raise BuildFileError(f"invalid IP address: {text}") from err
