from __future__ import annotations

from typing import Any

from torana.plugins.runtimes import seccomp
from torana.plugins.runtimes.spec import ALL_CAPABILITIES, CAPABILITIES

SANDBOX = frozenset(CAPABILITIES)


def rules(capabilities: frozenset[str], name: str, machine: str = "x86_64") -> list[dict[str, Any]]:
    found = seccomp.profile(capabilities, machine)
    assert found is not None
    return [rule for rule in found["syscalls"] if name in rule["names"]]


def test_default_is_refusal() -> None:
    found = seccomp.profile(SANDBOX, "x86_64")
    assert found is not None
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    for name in (
        "mount unshare setns bpf keyctl add_key kexec_load io_uring_setup userfaultfd ptrace_x "
        "open_by_handle_at init_module reboot swapon move_mount perf_event_open"
    ).split():
        assert rules(SANDBOX, name) == []
    assert [rule["action"] for rule in rules(SANDBOX, "openat2")] == ["SCMP_ACT_ALLOW"]


def test_clone_without_new_namespaces() -> None:
    (rule,) = rules(SANDBOX, "clone")
    assert rule["args"] == [
        {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    ]
    (rule,) = rules(SANDBOX, "clone", "s390x")
    assert rule["args"][0]["index"] == 1
    (rule,) = rules(SANDBOX, "clone3")
    assert (rule["action"], rule["errnoRet"]) == ("SCMP_ACT_ERRNO", 38)


def test_capabilities_open_calls() -> None:
    everything = frozenset(ALL_CAPABILITIES)
    for name in ("mount", "unshare", "clone3", "bpf", "reboot", "open_by_handle_at"):
        assert all(rule["action"] == "SCMP_ACT_ALLOW" for rule in rules(everything, name))
        assert rules(everything, name)
    assert rules(SANDBOX, "chroot")
    assert not rules(SANDBOX - {"CAP_SYS_CHROOT"}, "chroot")


def test_machines() -> None:
    assert rules(SANDBOX, "arch_prctl")
    assert not rules(SANDBOX, "arch_prctl", "aarch64")
    assert rules(SANDBOX, "arm_fadvise64_64", "aarch64")
    assert seccomp.profile(SANDBOX, "vax") is None


def test_personality_and_sockets_depend_on_arguments() -> None:
    values = [rule["args"][0]["value"] for rule in rules(SANDBOX, "personality")]
    assert values == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]
    (rule,) = rules(SANDBOX, "socket")
    assert rule["args"] == [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]


def test_no_call_is_listed_twice_without_condition() -> None:
    found = seccomp.profile(SANDBOX, "x86_64")
    assert found is not None
    names = [n for rule in found["syscalls"] if "args" not in rule for n in rule["names"]]
    assert len(names) == len(set(names))
