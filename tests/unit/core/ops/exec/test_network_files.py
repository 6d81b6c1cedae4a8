from __future__ import annotations

import pytest

from torana.core.llb.ops import HostIP
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.network_files import DNSConfig, hosts_text, resolv_conf_text

HOST = (
    "# by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\nsearch a b\noptions x\n"
)


def test_hosts() -> None:
    assert hosts_text("h", [HostIP("a", "::FFFF:1.2.3.4"), HostIP("a", "::5")]) == (
        "127.0.0.1\tlocalhost h\n::1\tlocalhost ip6-localhost ip6-loopback\n1.2.3.4\ta\n::5\ta\n"
    )


@pytest.mark.parametrize("address", ["", "1.2.3", "host", "1.2.3.4/24", "01.2.3.4", "fe80::1%eth0"])
def test_addresses_must_parse(address: str) -> None:
    with pytest.raises(InvalidExecOpError, match=f"failed to parse IP of extra host: `{address}`"):
        hosts_text("h", [HostIP("a", address)])


def test_loopback_servers_go_where_they_cannot_be_reached() -> None:
    assert resolv_conf_text(HOST, keeps_loopback=False) == (
        "# by hand\nsearch a b\noptions x\nnameserver 10.0.0.1\n"
    )
    assert "127.0.0.1" in resolv_conf_text(HOST, keeps_loopback=True)


@pytest.mark.parametrize("keeps", [True, False])
def test_public_servers_where_none_is_left(keeps: bool) -> None:
    assert resolv_conf_text("", keeps_loopback=keeps) == (
        "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
    )


def test_public_servers_after_filtering() -> None:
    text = resolv_conf_text("nameserver 127.0.0.53\n", keeps_loopback=False, ipv6=True)
    assert (
        text.split()
        == (
            "nameserver 8.8.8.8 nameserver 8.8.4.4 "
            "nameserver 2001:4860:4860::8888 nameserver 2001:4860:4860::8844"
        ).split()
    )


def test_settings_replace_one_by_one() -> None:
    dns = DNSConfig(nameservers=("127.0.0.9",), options=("y", "z"))
    assert resolv_conf_text(HOST, dns, keeps_loopback=False) == (
        "# by hand\nsearch a b\nnameserver 127.0.0.9\noptions y z\n"
    )
    assert "search c\n" in resolv_conf_text(HOST, DNSConfig(search=("c",)), keeps_loopback=True)
    assert "search a" not in resolv_conf_text(HOST, DNSConfig(search=("c",)), keeps_loopback=True)
