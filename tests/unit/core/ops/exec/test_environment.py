from __future__ import annotations

from pathlib import Path

from torana.core.llb.ops import ProxyEnv
from torana.core.ops.exec.environment import compose_environment
from torana.core.ops.exec.traces import StepTraces

HOME = "HOME=/h"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_order() -> None:
    proxy = ProxyEnv(http_proxy="h", https_proxy="s", ftp_proxy="f", no_proxy="n", all_proxy="a")
    assert compose_environment(
        ("A=1",), proxy, [("S", "v"), ("O", "")], defaults={"HOME": "/h"}
    ) == (
        "A=1",
        "HTTP_PROXY=h",
        "http_proxy=h",
        "HTTPS_PROXY=s",
        "https_proxy=s",
        "FTP_PROXY=f",
        "ftp_proxy=f",
        "NO_PROXY=n",
        "no_proxy=n",
        "ALL_PROXY=a",
        "all_proxy=a",
        PATH,
        "S=v",
        "O=",
        HOME,
    )


def test_own_path_stays_even_empty() -> None:
    assert compose_environment(("PATH=", "HOME="), None, defaults={"HOME": "/h"}) == (
        "PATH=",
        "HOME=",
    )


def test_unset_proxies_are_left_out() -> None:
    found = compose_environment((), ProxyEnv(no_proxy="x"), defaults={"HOME": "/h"})
    assert found == ("NO_PROXY=x", "no_proxy=x", PATH, HOME)


def test_last_of_a_name_counts() -> None:
    env = ("A=1", "PATH=p", "A=2")
    assert compose_environment(
        env, None, [("A", "3="), ("HOME", "s")], defaults={"HOME": "/h"}
    ) == (
        "A=3=",
        "PATH=p",
        "HOME=s",
    )


def test_defaults_of_traces() -> None:
    traces = StepTraces(socket=Path("/s"), parent="00-1-2-01")
    found = compose_environment(
        ("PATH=", "OTEL_TRACES_EXPORTER=none"), None, defaults=traces.environment()
    )
    assert found == (
        "PATH=",
        "OTEL_TRACES_EXPORTER=none",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=unix:///dev/otel-grpc.sock",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
        "TRACEPARENT=00-1-2-01",
    )
    assert "TRACEPARENT" not in StepTraces(socket=Path("/s")).environment()
