"""Addresses of extra hosts in BuildKit's form, as they are in digests and `/etc/hosts`. Pure."""

from __future__ import annotations

from ipaddress import ip_address


def host_address(text: str) -> str:
    """Give an IP address in its short form; one of version 4 inside version 6 as version 4.

    Raises:
        ValueError: it is none, or has a zone, which would be one of another machine.
    """
    address = ip_address(text)
    if "%" in text:
        raise ValueError(f"an address with a zone: `{text}`")
    return str(getattr(address, "ipv4_mapped", None) or address)
