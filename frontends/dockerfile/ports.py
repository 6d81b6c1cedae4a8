"""EXPOSE: `[[ip:]host:]port[-port][/proto]` to the ports that an image config lists."""

from __future__ import annotations

import re
from typing import Final

from torana.core.errors import BuildFileError
from torana.core.records import dataclass

_PROTOCOLS: Final = frozenset(("", "tcp", "udp", "sctp"))
_MAX_PORT: Final = 65535
_NUMBER: Final = re.compile(r"\+?[0-9]+")


@dataclass(frozen=True, slots=True)
class PortSpec:
    """One word of EXPOSE in its parts; `protocol` as written, empty for the default."""

    address: str
    host: str
    container: str
    protocol: str

    @property
    def has_odd_case(self) -> bool:
        return self.protocol != self.protocol.lower()

    @property
    def has_host_part(self) -> bool:
        return bool(self.address or self.host)

    def ports(self) -> tuple[str, ...]:
        """Give the ports, `80/tcp` each.

        Raises:
            BuildFileError: a part is not what its place asks for.
        """
        if self.address:
            _check_address(self.address)
        first, last = _range(self.container, "containerPort")
        if self.host:
            host_first, host_last = _range(self.host, "hostPort")
            if host_last - host_first != last - first and first != last:
                raise BuildFileError(
                    "invalid ranges specified for container and host Ports: "
                    f"{self.container} and {self.host}"
                )
        protocol = self.protocol.lower() or "tcp"
        return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def parse_ports(word: str) -> PortSpec:
    """Split one word of EXPOSE; numbers are not looked at yet.

    Raises:
        BuildFileError: no port, or an unknown protocol.
    """
    rest, _, last = word.rpartition(":")
    address, _, host = rest.rpartition(":")
    container, _, protocol = last.partition("/")
    if not container:
        raise BuildFileError(f'invalid port: "{word}": no port specified')
    if protocol.lower() not in _PROTOCOLS:
        raise BuildFileError(f'invalid port: "{word}": invalid proto: {protocol}')
    return PortSpec(address, host, container, protocol)


def _range(text: str, name: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    begin, end = _port(first), _port(last if dash else first)
    if begin is None or end is None or begin > end:
        raise BuildFileError(f"invalid {name}: {text}")
    return begin, end


def _port(text: str) -> int | None:
    if not _NUMBER.fullmatch(text) or int(text) > _MAX_PORT:
        return None
    return int(text)


def _check_address(text: str) -> None:
    from ipaddress import ip_address

    if text.startswith("["):
        text = text[1:].removesuffix("]")
    try:
        ip_address(text)
    except ValueError as err:
        raise BuildFileError(f"invalid IP address: {text}") from err
