"""Networks of steps, on a machine of their own: a network namespace with a route to nowhere.

A server listens on an address that lies beyond that route, and on the loopback address.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.needs(
    "root", "crun", "runc", "bwrap", "busybox", "ip", "iptables", "unshare", "pasta", "slirp4netns"
)

MACHINE = """
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d1 up
ip addr add 198.51.100.7/24 dev d0
ip addr add 203.0.113.1/32 dev lo
ip link set d0 up
ip route add default via 198.51.100.1
{before}
exec {prefix} "$@"
"""
# A device that ordinary users may open, as on most machines.
TUN = """
mknod {folder}/tun c 10 200
chmod 666 {folder}/tun
mount --bind {folder}/tun /dev/net/tun
"""
CODE = """
import asyncio, json, os, sys
from pathlib import Path
from torana.core.snapshots import namespace
namespace.enter()
from torana.core.errors import ToranaError
from torana.core.ops.runtime import ContainerNetwork, ContainerSpec
from torana.plugins.manager import PluginManager
from torana.plugins.networks.choose import choose_network
from torana.plugins.networks.cni import CNISettings

wanted, runtime_name, folder, config, script = sys.argv[1:]
folder = Path(folder)

async def greet(reader, writer):
    writer.write(b"served\\n")
    writer.close()

class Names(asyncio.DatagramProtocol):
    # Gives one address to every name.
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, sender):
        wants_ipv4 = query[-4:-2] == bytes([0, 1])
        header = query[:2] + bytes([0x81, 0x80, 0, 1, 0, int(wants_ipv4), 0, 0, 0, 0])
        answer = bytes([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 99])
        self.transport.sendto(header + query[12:] + answer * wants_ipv4, sender)

async def main():
    loop = asyncio.get_running_loop()
    if not namespace.is_mapped_user():  # who may not listen there
        for host in ("203.0.113.1", "127.0.0.1"):
            await loop.create_datagram_endpoint(Names, local_addr=(host, 53))
    hosts = "203.0.113.1", "127.0.0.1"
    servers = [await asyncio.start_server(greet, host, 8123) for host in hosts]
    settings = CNISettings(config=Path(config))
    choice = await choose_network(folder, wanted=wanted, cni=settings)
    runtime = next(r for r in PluginManager().runtimes() if r.name == runtime_name)
    said = []
    async with choice.provider.open("id", folder, "box") as network:
        (folder / "bundle").mkdir()
        names = network.nameservers or ["203.0.113.1"]
        servers_text = "".join(f"nameserver {name}\\n" for name in names)
        (folder / "rootfs" / "etc").mkdir()
        (folder / "rootfs" / "etc" / "resolv.conf").write_text(servers_text)
        spec = ContainerSpec(
            id="torana-network-test", directory=folder / "bundle", rootfs=folder / "rootfs",
            args=("sh", "-c", script), env=("PATH=/bin",),
            network=ContainerNetwork.SANDBOX, network_namespace=network.path,
        )
        status = await runtime.run(spec, lambda _, data: said.append(data))
    for server in servers:
        server.close()
    left = [path.name for path in folder.iterdir() if path.name == "network"]
    print(json.dumps({
        "choice": choice.name, "reason": choice.reason, "code": status.code, "left": left,
        "said": b"".join(said).decode().splitlines(), "servers": network.nameservers,
    }))

asyncio.run(main())
"""
SCRIPT = """
ls /sys/class/net
for address in 203.0.113.1 127.0.0.1 10.0.2.2 198.51.100.1 10.10.0.1; do
  echo $address $(timeout 2 nc -w 2 $address 8123 </dev/null 2>/dev/null || true) &
done
wait
"""


def run(
    folder: Path,
    wanted: str,
    runtime: str,
    script: str = SCRIPT,
    *,
    uid: int = 0,
    config: str = "/none",
    before: str = "",
) -> dict[str, Any]:
    rootfs = folder / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    subprocess.run(["cp", "/bin/busybox", rootfs / "bin"], check=True)
    for name in ("sh", "ls", "nc", "nslookup", "timeout"):
        (rootfs / "bin" / name).symlink_to("busybox")
    prefix = ""
    if uid:
        subprocess.run(["chown", "-R", f"{uid}:{uid}", folder], check=True)
        prefix = f"setpriv --reuid {uid} --regid {uid} --clear-groups --"
    machine = MACHINE.format(before=before.format(folder=folder), prefix=prefix)
    program = [sys.executable, "-B", "-c", CODE, wanted, runtime, str(folder), config, script]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", machine, "sh", *program],
        env={
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0, found
    return found


def reached(found: dict[str, Any]) -> set[str]:
    """Give the addresses at which the step was served."""
    return {line.split()[0] for line in found["said"] if "served" in line}


@pytest.mark.parametrize("runtime", ["crun", "runc", "bubblewrap"])
@pytest.mark.parametrize("network", ["pasta", "slirp4netns"])
def test_user_mode(folder: Path, network: str, runtime: str) -> None:
    found = run(folder, network, runtime)
    assert found["choice"] == network
    assert reached(found) == {"203.0.113.1"}
    assert found["left"] == []
    assert "lo" in found["said"]
    assert "d0" not in found["said"] or network == "pasta"  # whose interface has the host's name


@pytest.mark.parametrize("server", ["203.0.113.1", "127.0.0.1"])
@pytest.mark.parametrize("network", ["pasta", "slirp4netns"])
def test_names(folder: Path, network: str, server: str) -> None:
    """Servers of the host answer, those on its loopback by way of the network's program."""
    (folder / "resolv.conf").write_text(f"nameserver {server}\n")
    before = "mount --bind {folder}/resolv.conf /etc/resolv.conf"
    found = run(folder, network, "crun", "nslookup name.example", before=before)
    assert "203.0.113.99" in " ".join(found["said"])


@pytest.mark.parametrize("runtime", ["crun", "bubblewrap"])
def test_an_ordinary_user_gets_one(folder: Path, runtime: str) -> None:
    found = run(folder, "auto", runtime, uid=65534, before=TUN)
    assert (found["choice"], found["reason"]) == ("pasta", "works without rights")
    assert reached(found) == {"203.0.113.1"}


def test_none(folder: Path) -> None:
    found = run(folder, "none", "crun")
    assert reached(found) == set()
    assert found["said"][0] == "lo"


@pytest.mark.needs("/usr/lib/cni/bridge")
def test_bridge(folder: Path) -> None:
    found = run(folder, "bridge", "crun")
    assert reached(found) == {"203.0.113.1"}
    left = sorted(os.listdir(folder / "networks" / "torana-buildkit0"))
    assert left == ["last_reserved_ip.0", "lock"]  # its address is free again


@pytest.mark.needs("/usr/lib/cni/bridge")
def test_a_configured_network_is_taken(folder: Path) -> None:
    ipam = {"type": "host-local", "dataDir": str(folder / "leases"), "subnet": "10.11.0.0/24"}
    plugin = {"type": "ptp", "ipMasq": True, "ipam": ipam, "dns": {"nameservers": ["10.9.9.9"]}}
    config = folder / "cni.json"
    config.write_text(json.dumps({"cniVersion": "1.0.0", "name": "own", "plugins": [plugin]}))
    found = run(folder, "auto", "runc", config=str(config))
    assert (found["choice"], found["reason"]) == ("cni", f"configured by {config}")
    assert found["servers"] == ["10.9.9.9"]
