"""The builder: inheritance, order, numbering, options, depth."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from torana.core import llb
from torana.core.errors import SourceRange
from torana.core.llb import ops as o
from torana.core.llb.caps import LLB_CAPS, SETS_DEFAULT_PATH
from torana.core.llb.codec import decode
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform

AMD64 = Platform(os="linux", architecture="amd64")


def ops(state: llb.State, **options: Any) -> list[o.Op]:
    return [decode(o.Op, data) for data in state.marshal(platform=AMD64, **options).ops]


def exec_op(state: llb.State, **options: Any) -> o.ExecOp:
    kind = ops(state, **options)[-2].kind
    assert isinstance(kind, o.ExecOp)
    return kind


def meta(state: llb.State, **options: Any) -> o.Meta:
    found = exec_op(state, **options).meta
    assert found is not None
    return found


def test_the_vectors_of_the_wire_reference_can_be_built() -> None:
    base = llb.image("docker.io/library/busybox:latest").env("PATH", "/bin")
    made = base.run(["/bin/true"]).root.file(llb.mkdir("/d")).marshal(platform=AMD64)
    assert [d[:14] for d in made.digests()] == [
        "sha256:e1432b8",
        "sha256:eb74ab3",
        "sha256:f1bb2fe",
        "sha256:dc7ba94",
    ]


def test_scratch_is_the_empty_definition() -> None:
    assert llb.scratch().marshal().ops == ()


def test_processes_inherit_settings_and_may_override_them() -> None:
    base = (
        llb.scratch()
        .env("A", "1")
        .env("B", "2")
        .env("A", "3")
        .dir("/src")
        .dir("sub")
        .user("me")
        .hostname("h")
        .add_extra_host("db", "10.0.0.1")
        .add_ulimit("nofile", 5)
        .cgroup_parent("p")
        .network(o.NetMode.NONE)
    )
    inherited = meta(base.run(["x"]).root)
    assert inherited.env == ("B=2", "A=3")
    assert (inherited.cwd, inherited.user, inherited.hostname) == ("/src/sub", "me", "h")
    assert inherited.extra_hosts == (o.HostIP("db", "10.0.0.1"),)
    assert inherited.ulimit == (o.Ulimit("nofile", 5, 5),)
    assert inherited.cgroup_parent == "p"
    assert exec_op(base.run(["x"]).root).network == o.NetMode.NONE
    given = base.run(["x"], cwd="/", user="", network=o.NetMode.HOST).root
    assert (meta(given).cwd, meta(given).user) == ("/", "")
    assert exec_op(given).network == o.NetMode.HOST
    assert base.run(["x"]).root.inherited == base.inherited


def test_the_default_path_is_put_into_env_only_without_the_capability() -> None:
    state = llb.scratch().run(["x"]).root
    old = LLB_CAPS - {SETS_DEFAULT_PATH}
    assert meta(state).env == ()
    assert meta(state, caps=old).env[0].startswith("PATH=/usr/local/sbin:")
    assert meta(llb.scratch().env("PATH", "/x").run(["x"]).root, caps=old).env == ("PATH=/x",)
    windows = Platform(os="windows", architecture="amd64")
    assert meta(llb.scratch().run(["x"], platform=windows).root, caps=old).env == ()
    caps = state.marshal(platform=AMD64).metadata
    assert any(SETS_DEFAULT_PATH in m.caps for m in caps.values())


def test_mounts_are_sorted_then_secrets_then_agents() -> None:
    a, b = llb.local("a", session_id="s"), llb.local("b", session_id="s")
    process = llb.image("docker.io/library/x:1").run(
        ["x"],
        mounts=[
            llb.MountSpec(target="/z", source=a.output),
            llb.MountSpec(target="/c", type=o.MountType.CACHE, cache_id="id"),
            llb.MountSpec(target="/b", source=b.output, readonly=True),
            llb.MountSpec(target="/t", type=o.MountType.TMPFS),
            llb.MountSpec(target="/a", source=a.output, no_output=True),
        ],
        secrets=[llb.SecretSpec(id="k", target="/a-secret"), llb.SecretSpec(id="e", env="E")],
        ssh=[llb.SSHSpec()],
    )
    op = ops(process.root)[-2]
    assert isinstance(op.kind, o.ExecOp)
    rows = [(m.dest, m.input, m.output) for m in op.kind.mounts]
    assert rows == [
        ("/", 0, 0),
        ("/a", 1, -1),
        ("/b", 2, -1),
        ("/c", -1, -1),
        ("/t", -1, -1),
        ("/z", 1, 1),
        ("/a-secret", -1, 0),
        ("/run/buildkit/ssh_agent.0", -1, 0),
    ]
    assert op.kind.mounts[4].tmpfs_opt == o.TmpfsOpt(0)
    assert op.kind.secret_env == (o.SecretEnv("e", "E"),)
    assert op.kind.meta is not None
    assert op.kind.meta.env == ("SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0",)


def test_added_mounts_give_their_trees() -> None:
    process, out = llb.image("docker.io/library/x:1").run(["x"]).add_mount("/out")
    assert ops(out)[-1].inputs[0].index == 1
    assert ops(process.root)[-1].inputs[0].index == 0
    shared = llb.local("l", session_id="s")
    _, unchanged = process.add_mount("/in", shared, readonly=True)
    assert unchanged.output is shared.output
    cached, _ = process.add_mount("/c", type=o.MountType.CACHE, cache_id="n")
    assert exec_op(cached.root).mounts[1].cache_opt == o.CacheOpt("n")


def test_file_ops_visit_sources_from_the_last_but_number_them_from_the_first() -> None:
    base, one, two = (llb.local(name, session_id="s") for name in ("base", "one", "two"))
    state = base.file(llb.copy(one, "/1", "/").copy(two, "/2", "/").copy(one, "/3", "/"))
    made = ops(state)
    names = [op.kind.identifier for op in made[:3] if isinstance(op.kind, o.SourceOp)]
    assert names == ["local://base", "local://one", "local://two"]  # the last action reads one
    kind = made[3].kind
    assert isinstance(kind, o.FileOp)
    assert [(a.input, a.secondary_input, a.output) for a in kind.actions] == [
        (0, 1, -1),
        (3, 2, -1),
        (4, 1, 0),
    ]
    other = base.file(llb.copy(one, "/1", "/").copy(two, "/2", "/"))
    names = [op.kind.identifier for op in ops(other)[:3] if isinstance(op.kind, o.SourceOp)]
    assert names == ["local://base", "local://two", "local://one"]
    first, second = (Digest.of(d) for d in other.marshal(platform=AMD64).ops[1:3])
    assert [item.digest for item in ops(other)[3].inputs[1:]] == [second, first]


def test_names_of_owners_are_looked_up_in_the_base_of_the_chain() -> None:
    base = llb.local("base", session_id="s")
    state = base.file(
        llb.mkdir("/a", owner=llb.owner("u", 5)).mkdir("/b", owner=llb.owner("u", "g"))
    )
    kind = ops(state)[-2].kind
    assert isinstance(kind, o.FileOp)
    first, second = (a.action for a in kind.actions)
    assert isinstance(first, o.MkDir) and isinstance(second, o.MkDir)
    assert first.owner == o.ChownOpt(o.UserOpt(by_name=o.NamedUser("u", 0)), o.UserOpt(by_id=5))
    named = o.NamedUser("u", 0), o.NamedUser("g", 0)  # not the result of the first action
    assert second.owner == o.ChownOpt(*(o.UserOpt(by_name=name) for name in named))


def test_unset_times_and_modes_are_written_as_minus_one() -> None:
    source = llb.local("s", session_id="s")
    actions = llb.mkdir("/d").mkfile("/f", b"x").symlink("t", "/l").rm("/r").copy(source, "/", "/c")
    kind = ops(llb.scratch().file(actions))[-2].kind
    assert isinstance(kind, o.FileOp)
    times = [getattr(a.action, "timestamp", None) for a in kind.actions]
    assert times == [-1, -1, -1, None, -1]
    copy = kind.actions[-1].action
    assert isinstance(copy, o.Copy) and copy.mode == -1
    epoch = ops(llb.scratch().file(llb.mkdir("/d", timestamp_ns=0)))[-2].kind
    assert isinstance(epoch, o.FileOp) and isinstance(epoch.actions[0].action, o.MkDir)
    assert epoch.actions[0].action.timestamp == 0


def test_merge_and_diff_leave_scratch_out() -> None:
    a, b = (llb.local(name, session_id="s") for name in "ab")
    assert llb.merge([llb.scratch()]).output is None
    assert llb.merge([llb.scratch(), a]).output is a.output
    kind = ops(llb.merge([a, llb.scratch(), b, a]))[-2]
    assert kind.kind == o.MergeOp((o.MergeInput(0), o.MergeInput(1), o.MergeInput(2)))
    assert llb.diff(llb.scratch(), a) is a
    assert ops(llb.diff(a, b))[-2].kind == o.DiffOp(o.DiffInput(0), o.DiffInput(1))
    removed = ops(llb.diff(a, llb.scratch()))[-2]
    assert removed.kind == o.DiffOp(o.DiffInput(0), o.DiffInput(-1))
    assert len(removed.inputs) == 1


def test_equal_ops_are_one_and_their_metadata_is_joined() -> None:
    def step(**options: Any) -> llb.State:
        return llb.scratch().file(llb.mkdir("/d"), **options)

    made = llb.merge([step(custom_name="n"), step(ignore_cache=True)]).marshal(platform=AMD64)
    assert len(made.ops) == 3
    joined = made.metadata[Digest.of(made.ops[0])]
    assert joined.ignore_cache and joined.description == {"llb.customname": "n"}
    caps = made.metadata[Digest.of(made.ops[-1])].caps
    assert set(caps) == {"constraints", "platform", "meta.description", "meta.ignorecache"}


def test_resolve_mode_needs_its_capability_only_for_pull() -> None:
    def caps(mode: str) -> set[str]:
        made = llb.image("docker.io/library/x:1", resolve_mode=mode).marshal(platform=AMD64)
        return set(made.metadata[Digest.of(made.ops[0])].caps)

    assert caps("pull") == {"source.image", "source.image.resolvemode"}
    assert caps("local") == caps("default") == {"source.image"}


def test_platforms_are_on_processes_and_images_only() -> None:
    arm = Platform(os="linux", architecture="arm64")
    state = llb.image("docker.io/library/x:1", platform=arm).platform(arm).run(["x"]).root
    assert [op.platform for op in ops(state.file(llb.rm("/x")))] == [arm, arm, None, None]
    assert ops(llb.http("https://example.com/a"))[0].platform is None


def test_locations_keep_empty_range_lists_and_number_files_once() -> None:
    info = llb.SourceInfo("Dockerfile", b"FROM x\n", "Dockerfile")
    place = llb.SourceLocation(info, (SourceRange.lines("Dockerfile", 1, 2),))
    state = llb.local("l", session_id="s", location=[llb.SourceLocation(info)])
    made = state.file(llb.mkdir("/d"), location=[place]).marshal(platform=AMD64)
    assert made.source is not None
    first, second = (made.source.locations[d].locations[0] for d in made.digests()[:2])
    assert (first.source_index, first.ranges) == (0, ())
    assert (second.source_index, second.ranges[0].end.line) == (0, 2)
    assert made.source.infos == (info,)
    excerpt = made.source.excerpts(made.digests()[1])[0]
    assert excerpt.ranges == (SourceRange.lines("Dockerfile", 1, 2),)


def test_local_sources_without_a_session_differ() -> None:
    one, two = (llb.local("x").marshal(platform=AMD64) for _ in range(2))
    assert one.ops[0] != two.ops[0]


def test_ready_made_definitions_keep_their_bytes(solves: Any) -> None:
    for solve in solves[::7]:
        given = llb.Definition(tuple(row.data for row in solve.ops))
        assert llb.from_definition(given).marshal(platform=AMD64).ops == given.ops


def test_deep_states_need_no_recursion_and_linear_time() -> None:
    def cost(length: int) -> float:
        state = llb.scratch()
        for number in range(length):
            state = state.file(llb.mkdir(f"/{number}"))
        begin = time.process_time()
        assert len(state.marshal(platform=AMD64).ops) == length + 1
        return time.process_time() - begin

    small = min(cost(2_500) for _ in range(2))
    assert cost(20_000) < 8 * small * 5  # quadratic would be 64 times


def test_names_are_sorted_and_load_on_first_use() -> None:
    assert list(llb.__all__) == sorted(llb.__all__)
    assert all(getattr(llb, name) is not None for name in llb.__all__)
    with pytest.raises(AttributeError):
        _ = llb.missing
    code = (
        "import sys, torana.core.llb; from torana.core.llb import Definition\n"
        "Definition.decode(b'')\n"
        "bad = [m for m in sys.modules if m.startswith(('google', 'asyncio', 'grpc'))]\n"
        "bad += [m for m in sys.modules if m == 'torana.core.llb.state']\n"
        "sys.exit(' '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
