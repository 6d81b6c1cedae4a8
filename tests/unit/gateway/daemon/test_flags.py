"""`toranad`'s flags over the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from torana.cli import daemon
from torana.core.quantities import Size
from torana.gateway.daemon.config import Config
from torana.plugins.networks.choose import MODES


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What would have been served."""
    configs: list[Config] = []
    monkeypatch.setattr("torana.gateway.daemon.serve.serve", configs.append)
    return configs


def test_flags_win_over_the_file(served: list[Config], tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(
        'root = "/file"\n[grpc]\naddress = ["unix:///file.sock"]\ngid = 5\n'
        '[worker.oci]\nmax-parallelism = 7\n[worker.oci.labels]\na = "1"\n'
    )
    arguments = (
        f"--config {file} --root /flag --addr tcp://127.0.0.1:1 --addr unix:///b --debug "
        "--oci-worker-labels b=2,c=3 --oci-worker-gc=false --allow-insecure-entitlement "
        "network.host --oci-worker-gc-keepstorage 1,2GB --tlscert c --tlskey k --tlscacert a"
    )
    assert daemon.run(arguments.split()) == 0
    (config,) = served
    assert config.root == Path("/flag")
    assert config.addresses == ("tcp://127.0.0.1:1", "unix:///b")
    assert config.gid == 5 and config.log_level == "debug"
    assert config.entitlements == {"network.host"}
    assert config.tls is not None and config.tls.ca == Path("a")
    worker = config.worker
    assert worker.labels == {"a": "1", "b": "2", "c": "3"} and worker.max_parallelism == 7
    assert not worker.has_gc
    assert (worker.reserved, worker.min_free) == (Size(1_000_000), Size(2 << 30))
    assert worker.max_used is None


@pytest.mark.parametrize("name", MODES)
def test_network(served: list[Config], name: str) -> None:
    assert daemon.run(["--oci-worker-net", name]) == 0
    assert served[0].worker.network == name


def test_nothing_given_leaves_the_file(served: list[Config], tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('[log]\nlevel = "error"\n[worker.oci]\ngc = false\n')
    assert daemon.run(["--config", str(file)]) == 0
    assert served[0].log_level == "error" and not served[0].worker.has_gc
    assert served[0].unused == ()


def test_flags_without_effect_are_taken_and_named(served: list[Config]) -> None:
    assert daemon.run("--oci-worker=true --containerd-worker=false --rootless".split()) == 0
    assert set(served[0].unused) == {"--oci-worker", "--containerd-worker", "--rootless"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--allow-insecure-entitlement everything", "invalid entitlement : everything"),
        ("--tlscert c", "you must specify key and cert file"),
        ("--oci-worker-labels x", "must be KEY=VALUE: `x`"),
        ("--group no-such-group-here", "no such group: `no-such-group-here`"),
        ("--addr", "requires an argument"),
        ("--oci-worker-gc-keepstorage 1,2,3,4", "invalid --oci-worker-gc-keepstorage"),
    ],
)
def test_wrong_flags(
    served: list[Config], arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert daemon.run(arguments.split()) == 2
    assert message in capsys.readouterr().err
    assert served == []


def test_a_wrong_file_is_a_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[grpc]\nadress = []")
    assert daemon.run(["--config", str(file)]) == 1
    error = capsys.readouterr().err
    assert "unknown key: `grpc.adress`" in error and "hint: did you mean `address`?" in error


def test_help_and_version() -> None:
    runner: Any = CliRunner()
    assert "--oci-worker-gc" in runner.invoke(daemon.toranad, ["--help"]).output
    assert runner.invoke(daemon.toranad, ["--version"]).output.startswith("toranad ")


def test_a_network_that_is_not_there_is_refused(served: list[Config], tmp_path: Path) -> None:
    """Ignoring it would let steps past what the administrator asked for."""
    file = tmp_path / "t.toml"
    file.write_text("proxyNetwork = true\n")
    assert daemon.run(["--proxy-network"]) == 2
    assert daemon.run(["--config", str(file)]) != 0
    assert served == []
    file.write_text("proxyNetwork = false\n")
    assert daemon.run(["--proxy-network=false", "--config", str(file)]) == 0
    assert len(served) == 1
