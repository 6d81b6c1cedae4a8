"""`serve`: from start to graceful stop.

The first SIGTERM or SIGINT lets running builds end, the second cancels them, the third ends the
process at once.

Spec: reference of the daemon, section 1.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from torana.core.worker import Worker
from torana.gateway.daemon.config import Config
from torana.gateway.daemon.lock import RootLock
from torana.gateway.daemon.systemd import notify, take_notify_address
from torana.gateway.engines.network import LazyNetwork
from torana.plugins.manager import PluginManager

if TYPE_CHECKING:
    from torana.gateway.daemon.daemon import Daemon

log = logging.getLogger(__name__)

_SNAPSHOTTERS: Final = {"overlayfs": "overlay", "": "auto"}  # by BuildKit's names
_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "panic": logging.CRITICAL,
}


def serve(config: Config) -> None:
    """Serve until told to stop; call it before any thread is started.

    Raises:
        ToranaError: the root is taken, or something of the configuration cannot be used.
    """
    _set_up_log(config)
    for key in config.unused:
        log.warning("has no effect here: %s", key)
    config.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.umask(0o022)
    lock = RootLock(config.root)
    lock.take()
    try:
        snapshotter = _SNAPSHOTTERS.get(config.worker.snapshotter, config.worker.snapshotter)
        # It enters private namespaces, hence before there are threads.
        worker = Worker.open(config.root, snapshotter=PluginManager().snapshotter(snapshotter))
        worker.dns = config.dns
        worker.network = LazyNetwork(config.root, config.worker.network, config.worker.cni)
        worker.limit_parallelism(config.worker.max_parallelism)
        if config.worker.apparmor_profile is not None:
            worker.apparmor_profile = config.worker.apparmor_profile
        worker.cgroup_parent = config.worker.cgroup_parent
        if config.worker.has_selinux is not None:
            worker.has_selinux = config.worker.has_selinux
        if config.devices is not None:
            worker.devices = config.devices
        if config.worker.step_limits is not None:
            worker.limits = config.worker.step_limits
        try:
            for line in worker.dropped:
                log.info("dropped at start: %s", line)
            asyncio.run(_serve(config, worker))
        finally:
            worker.close()
    finally:
        lock.release()


async def _serve(config: Config, worker: Worker) -> None:
    # grpc starts its threads when it is imported or used: not before the namespaces.
    from torana.gateway.daemon.daemon import Daemon

    systemd = take_notify_address(os.environ)
    stop = asyncio.Event()
    daemon = Daemon(config, worker)
    try:
        await daemon.start()
        _on_signals(stop, daemon)
        notify(systemd, "READY=1")
        await stop.wait()
        notify(systemd, "STOPPING=1")
        log.info("stopping server")
        await daemon.drain()
    finally:
        await daemon.close()


def _on_signals(stop: asyncio.Event, daemon: Daemon) -> None:
    loop = asyncio.get_running_loop()
    count = 0

    def on_signal() -> None:
        nonlocal count
        count += 1
        if count == 1:
            stop.set()
        elif count == 2:
            log.warning("got second signal: cancelling builds")
            daemon.cancel_builds()
        else:
            os._exit(1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)


def _set_up_log(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormat() if config.log_format == "json" else _TextFormat())
    logging.basicConfig(handlers=[handler], level=_LEVELS[config.log_level], force=True)


class _TextFormat(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")


class _JsonFormat(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)
