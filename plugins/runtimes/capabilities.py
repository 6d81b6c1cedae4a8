"""Capabilities that this kernel and process have."""

from __future__ import annotations

from pathlib import Path

from torana.plugins.runtimes.spec import ALL_CAPABILITIES

# In the order of their numbers.
_NUMBERED = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()


def known_capabilities() -> frozenset[str]:
    """Give what an insecure container may have: the bounding set of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            mask = int(value, 16)
            return frozenset(
                f"CAP_{short}" for number, short in enumerate(_NUMBERED) if mask >> number & 1
            )
    return frozenset(ALL_CAPABILITIES)
