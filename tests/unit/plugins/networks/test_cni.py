from __future__ import annotations

import json
from pathlib import Path

import pytest

from torana.core.errors import UserError
from torana.plugins.networks.cni import (
    BridgeSettings,
    NetworkList,
    bridge_network,
    read_network,
)


def write(folder: Path, document: object) -> Path:
    file = folder / "cni.json"
    file.write_text(json.dumps(document))
    return file


def test_one_plugin(tmp_path: Path) -> None:
    plugin = {"cniVersion": "0.4.0", "name": "n", "type": "ptp"}
    assert read_network(write(tmp_path, plugin)) == NetworkList("n", "0.4.0", (plugin,))


def test_a_list(tmp_path: Path) -> None:
    plugins = [{"type": "bridge"}, {"type": "firewall"}]
    found = read_network(write(tmp_path, {"name": "n", "plugins": plugins}))
    assert found == NetworkList("n", "1.0.0", tuple(plugins))


@pytest.mark.parametrize(
    "document", [[], {}, {"name": "n"}, {"name": 1, "type": "x"}, {"name": "n", "plugins": [{}]}]
)
def test_what_is_none(tmp_path: Path, document: object) -> None:
    with pytest.raises(UserError, match="not a network configuration"):
        read_network(write(tmp_path, document))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_network(tmp_path / "absent")
    (tmp_path / "text").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        read_network(tmp_path / "text")


def test_bridge(tmp_path: Path) -> None:
    made = bridge_network(BridgeSettings(name="b0", subnet="10.1.0.0/16"), tmp_path)
    bridge = made.plugins[0]
    assert (bridge["type"], bridge["bridge"]) == ("bridge", "b0")
    assert bridge["ipam"]["subnet"] == "10.1.0.0/16"
    assert bridge["ipam"]["dataDir"] == str(tmp_path)
