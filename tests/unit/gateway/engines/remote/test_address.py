"""Addresses of daemons, pure."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.errors import UsageError
from torana.gateway.engines.remote.address import (
    TLS,
    CommandAddress,
    DockerAddress,
    SocketAddress,
    TCPAddress,
    parse_address,
)


def words(text: str) -> list[str]:
    found = parse_address(text)
    assert isinstance(found, CommandAddress)
    return list(found.argv)


def test_sockets_and_ports() -> None:
    assert parse_address("unix:///run/b.sock") == SocketAddress("/run/b.sock")
    assert parse_address("tcp://host:1234") == TCPAddress("host", 1234)
    assert parse_address("tcp://[::1]:9", tls=TLS()) == TCPAddress("::1", 9)
    tls = TLS(authority=Path("ca.pem"))
    assert parse_address("tcp://host:1234", tls=tls) == TCPAddress("host", 1234, tls)


def test_programs() -> None:
    ssh = words("ssh://me@host:2222/run/b.sock")
    assert ssh[:7] == ["ssh", "-T", "-p", "2222", "--", "me@host", "sh"]
    assert ssh[-3:] == ["sh", "'--addr'", "'unix:///run/b.sock'"]
    assert words("ssh://host")[:4] == ["ssh", "-T", "--", "host"]
    assert words("docker-container://bk?context=far")[:5] == [
        "docker",
        "--context=far",
        "exec",
        "-i",
        "bk",
    ]
    assert words("podman-container://bk")[:4] == ["podman", "exec", "-i", "bk"]
    assert words("nerdctl-container://bk?namespace=n")[:3] == ["nerdctl", "--namespace=n", "exec"]
    assert words("kube-pod://bk-0?namespace=ci&container=c")[:6] == [
        "kubectl",
        "--namespace=ci",
        "exec",
        "-i",
        "bk-0",
        "--container=c",
    ]


def test_docker_daemons() -> None:
    default = SocketAddress("/var/run/docker.sock")
    assert parse_address("docker://") == DockerAddress(default)
    assert parse_address("docker:///x/d.sock") == DockerAddress(SocketAddress("/x/d.sock"))
    assert parse_address("docker://h:2375") == DockerAddress(TCPAddress("h", 2375))
    by_variable = parse_address("docker://", docker_host="unix:///y.sock")
    assert by_variable == DockerAddress(SocketAddress("/y.sock"))
    with pytest.raises(UsageError, match="cannot be reached this way"):
        parse_address("docker://", docker_host="ssh://host")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/run/b.sock",
        "http://host",
        "unix://relative",
        "tcp://host",
        "tcp://host:port",
        "tcp://:1",
        "ssh://",
        "ssh://-oProxyCommand=evil",
        "ssh://-lroot@host",
        "docker-container://",
        "docker-container://--privileged",
        "kube-pod://-x",
        "tcp://[half:1",
    ],
)
def test_mistakes(text: str) -> None:
    with pytest.raises(UsageError, match="invalid address"):
        parse_address(text)
