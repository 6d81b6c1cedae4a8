"""What systemd hands to a service and wants to hear from it.

Spec: sd_listen_fds(3), sd_notify(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

from torana.core.errors import UserError

_FIRST_FD = 3


def take_listeners(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Give the listening sockets that this process was started with, by name.

    The variables are removed, so that no child takes them for its own.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[socket.socket]] = {}
    if pid != str(os.getpid()) or not count.isdigit():
        return found
    for index in range(int(count)):
        fd = _FIRST_FD + index
        os.set_inheritable(fd, False)
        name = names[index] if index < len(names) and names[index] else "unknown"
        found.setdefault(name, []).append(socket.socket(fileno=fd))
    return found


def pick_listeners(passed: Mapping[str, list[socket.socket]], name: str) -> list[socket.socket]:
    """Give the sockets that `fd://NAME` means; without a name all of them.

    Raises:
        UserError: there is none.
    """
    if name:
        sockets = list(passed.get(name, ()))
    else:
        sockets = [each for group in passed.values() for each in group]
    if not sockets:
        known = ", ".join(f"`{each}`" for each in passed) or "none"
        raise UserError(
            f"no socket was passed for fd://{name}", hint=f"sockets passed by systemd: {known}"
        )
    return sockets


def take_notify_address(environment: MutableMapping[str, str]) -> str:
    """Give where systemd wants to hear from us, empty if nowhere.

    The variable is removed: runtimes would pass it on to containers, and crun fails to.
    """
    return environment.pop("NOTIFY_SOCKET", "")


def notify(address: str, state: str) -> bool:
    """Tell systemd `READY=1` or `STOPPING=1`; says whether it could be told."""
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client:
        try:
            client.connect(address)
            client.sendall(state.encode())
        except OSError:
            return False
    return True
