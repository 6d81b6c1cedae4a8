"""The configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from torana.core.ops.exec.cdi import Devices
from torana.core.ops.exec.limits import StepLimits
from torana.core.quantities import Size
from torana.gateway.daemon.config import InvalidConfigError, parse_config, read_config

EVERYTHING = """
root = "/srv/torana"
insecure-entitlements = ["network.host"]
[log]
level = "debug"
format = "json"
[grpc]
address = ["unix:///run/a.sock", "tcp://127.0.0.1:1234"]
gid = 7
[grpc.tls]
cert = "/c.pem"
key = "/k.pem"
ca = "/ca.pem"
[worker.oci]
gc = false
reservedSpace = "10%"
max-parallelism = 3
[worker.oci.labels]
place = "here"
[[worker.oci.gcpolicy]]
keepBytes = 512
keepDuration = "48h"
filters = ["type==source.local"]
[worker.containerd]
enabled = false
[registry."docker.io"]
mirrors = ["mirror.example"]
http = true
[[registry."docker.io".keypair]]
key = "/a"
cert = "/b"
[dns]
nameservers = ["1.2.3.4"]
[history]
maxAge = 3600
maxEntries = 5
[frontend."gateway.v0"]
enabled = false
"""


def test_every_part_is_read() -> None:
    config = parse_config(EVERYTHING, "x.toml")
    assert config.root == Path("/srv/torana")
    assert config.addresses == ("unix:///run/a.sock", "tcp://127.0.0.1:1234")
    assert config.gid == 7 and config.uid is None
    assert config.tls is not None and config.tls.ca == Path("/ca.pem")
    assert (config.log_level, config.log_format) == ("debug", "json")
    assert config.entitlements == {"network.host"}
    worker = config.worker
    assert not worker.has_gc and worker.reserved == Size(percent=10)
    assert worker.max_parallelism == 3 and worker.labels == {"place": "here"}
    (rule,) = worker.gc_rules
    assert rule.reserved == Size(512) and rule.keep_duration_s == 172800
    assert rule.filters == ("type==source.local",)
    registry = config.registries["docker.io"]
    assert registry.mirrors == ("mirror.example",) and registry.http is True
    assert registry.keypairs == ((Path("/a"), Path("/b")),)
    assert config.dns is not None and config.dns.nameservers == ("1.2.3.4",)
    assert (config.history_max_age_s, config.history_max_entries) == (3600, 5)
    assert not config.frontends["gateway.v0"].is_enabled
    assert config.unused == ("worker.containerd",)


def test_nothing_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORANA_ROOT", str(tmp_path))
    config = parse_config("", "x.toml")
    assert config.root == tmp_path
    assert len(config.addresses) == 1 and config.addresses[0].startswith("unix:///")
    assert (config.history_max_age_s, config.history_max_entries) == (172800, 50)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[wroker]", "unknown key: `wroker`", "did you mean `worker`?"),
        ("[worker.oci]\nGC = 1", "unknown key: `worker.oci.GC`", "did you mean `gc`?"),
        ("[grpc]\nadress = []", "unknown key: `grpc.adress`", "did you mean `address`?"),
        ('[grpc]\nzzzzzz = ""', "unknown key: `grpc.zzzzzz`", None),
        ("root = 5", "root: must be of type string: `5`", None),
        ("[history]\nmaxEntries = -1", "history.maxEntries: -1 is less than", None),
        ('[log]\nlevel = "loud"', "log.level: unknown value: `loud`", "known: `trace`"),
        ('[history]\nmaxAge = "soon"', "invalid duration: `soon`", "for example"),
        ('[grpc.tls]\ncert = "c"', "you must specify key and cert file", None),
        ("root = ", "no TOML: ", None),
        ("[worker.oci]\nenabled = false", "worker.oci.enabled: there is no other worker", None),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        parse_config(text, "x.toml")
    assert str(raised.value).startswith(f"x.toml: {message}")
    assert (raised.value.hint or "").startswith(hint or "")
    assert (raised.value.hint is None) == (hint is None)


def test_networks_that_are_not_there_are_named() -> None:
    assert parse_config('[worker.oci]\nnetworkMode = "host"', "x").unused == ()
    config = parse_config(
        '[worker.oci]\nnetworkMode = "bridge"\nbridgeSubnet = "10.1.0.0/16"\ncniBinaryPath = "/p"',
        "x",
    )
    assert config.unused == ()
    assert (config.worker.network, config.worker.cni.folders) == ("bridge", (Path("/p"),))
    assert config.worker.cni.bridge.subnet == "10.1.0.0/16"


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match="configuration file not found"):
        read_config(tmp_path / "none.toml")


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "toranad.toml").write_text("debug = true")
    assert read_config(tmp_path / "toranad.toml").log_level == "debug"


def test_what_steps_may_use() -> None:
    text = """
[worker.oci]
apparmor-profile = "steps"
selinux = true
defaultCgroupParent = "builds"
[worker.oci.stepLimits]
memory = "2GB"
cpus = 1.5
[cdi]
specDirs = ["/d"]
autoAllowed = ["acme.com/gpu"]
"""
    config = parse_config(text, "x.toml")
    assert config.grantable == {"device"}
    more = parse_config(f"insecure-entitlements = ['network.host']\n{text}", "x.toml")
    assert more.grantable == {"device", "network.host"}
    without = "insecure-entitlements = ['device', 'network.host']\n[cdi]\ndisabled = true\n"
    assert parse_config(without, "x.toml").grantable == {"network.host"}
    assert config.worker.has_selinux is True and config.worker.cgroup_parent == "builds"
    assert config.worker.apparmor_profile == "steps"
    limits = StepLimits(pids=StepLimits().pids, memory_bytes=2 << 30, cpus=1.5)
    assert config.worker.step_limits == limits
    assert config.devices == Devices((Path("/d"),), frozenset({"acme.com/gpu"}))
    assert parse_config("[cdi]\ndisabled = true\n", "x.toml").devices == Devices()
    with pytest.raises(InvalidConfigError, match=r"stepLimits.memory"):
        parse_config("[worker.oci.stepLimits]\nmemory = '10%'\n", "x.toml")
