"""Values to messages and back."""

from __future__ import annotations

import stat
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from torana.core.errors import Position, SourceRange
from torana.core.llb import ops as o
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.gateway.client import client as c
from torana.gateway.client import containers as k
from torana.gateway.client import messages as m
from torana.gateway.client.container_messages import (
    container_message,
    container_spec_of,
    init_message,
    process_spec_of,
)
from torana.gateway.protocol import gateway_pb2 as pb
from torana.gateway.testing.clients import failing, tree

texts = st.text(st.characters(codec="utf-8"), max_size=8)
attrs = st.dictionaries(texts, texts, max_size=3)
small = st.integers(0, 2**31 - 1)

kinds = st.sampled_from(
    [
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFBLK,
        stat.S_IFCHR,
    ]
)
stats = st.builds(
    c.Stat,
    path=texts,
    mode=st.builds(lambda kind, bits: kind | bits, kinds, st.integers(0, 0o7777)),
    uid=small,
    gid=small,
    size=st.integers(0, 2**63 - 1),
    mtime_ns=st.integers(-(2**63), 2**63 - 1),
    linkname=texts,
    devmajor=small,
    devminor=small,
    xattrs=st.dictionaries(texts, st.binary(max_size=4), max_size=2),
)


@given(stats)
def test_stat(value: c.Stat) -> None:
    assert m.stat_of(m.stat_message(value)) == value


def test_modes_are_those_of_go() -> None:
    modes = {
        stat.S_IFDIR | 0o1777: 1 << 31 | 1 << 20 | 0o777,
        stat.S_IFREG | 0o4755: 1 << 23 | 0o755,
        stat.S_IFREG | 0o2755: 1 << 22 | 0o755,
        stat.S_IFLNK | 0o777: 1 << 27 | 0o777,
        stat.S_IFCHR | 0o600: 1 << 26 | 1 << 21 | 0o600,
        stat.S_IFBLK | 0o600: 1 << 26 | 0o600,
        stat.S_IFIFO | 0o600: 1 << 25 | 0o600,
    }
    assert {mode: m.stat_message(c.Stat(path="", mode=mode)).mode for mode in modes} == modes


definitions = st.sampled_from([tree(), failing()])
requests = st.builds(
    c.SolveRequest,
    definition=st.none() | definitions,
    frontend=texts,
    frontend_opt=attrs,
    frontend_inputs=st.dictionaries(texts, definitions, max_size=2),
    cache_imports=st.lists(st.builds(c.CacheImport, type=texts, attrs=attrs), max_size=2),
    evaluate=st.booleans(),
)


@given(requests)
def test_solve_request(value: c.SolveRequest) -> None:
    read = m.solve_request_of(m.solve_message(value))
    assert read.frontend == value.frontend
    assert (read.frontend_opt, read.evaluate) == (value.frontend_opt, value.evaluate)
    assert list(read.cache_imports) == list(value.cache_imports)
    both = (read.definition, value.definition)
    ops = [None if each is None else each.ops for each in both]
    assert ops[0] == ops[1]
    assert {name: each.ops for name, each in read.frontend_inputs.items()} == {
        name: each.ops for name, each in value.frontend_inputs.items()
    }


def test_definitions_keep_their_places() -> None:
    read = m.definition_of(m.definition_message(failing()))
    digest = read.digests()[0]
    assert read.source is not None
    assert [e.filename for e in read.source.excerpts(digest)] == ["build.file"]


platforms = st.builds(Platform, os=texts, architecture=texts, variant=texts)
mounts = st.builds(
    k.ContainerMount,
    dest=texts,
    result_id=texts,
    selector=texts,
    readonly=st.booleans(),
    mount_type=st.sampled_from(o.MountType),
    tmpfs_opt=st.none() | st.builds(o.TmpfsOpt, size=small),
    cache_opt=st.none() | st.builds(o.CacheOpt, id=texts, sharing=st.sampled_from(o.CacheSharing)),
    secret_opt=st.none() | st.builds(o.SecretOpt, id=texts, uid=small, mode=small),
    ssh_opt=st.none() | st.builds(o.SSHOpt, id=texts, optional=st.booleans()),
)
specs = st.builds(
    k.ContainerSpec,
    mounts=st.lists(mounts, max_size=3),
    network=st.sampled_from(o.NetMode),
    platform=st.none() | platforms,
    constraints=st.none() | st.builds(o.Constraints, filter=st.tuples(texts)),
    hostname=texts,
    extra_hosts=st.lists(st.builds(o.HostIP, host=texts, ip=texts), max_size=2),
)


async def _no_ref(reference: c.Reference | None) -> pb.Ref:
    return pb.Ref()


@given(specs)
async def test_container(value: k.ContainerSpec) -> None:
    message = await container_message("id", value, _no_ref)
    assert container_spec_of(message, {}) == value


processes = st.builds(
    k.ProcessSpec,
    args=st.lists(texts, max_size=3).map(tuple),
    env=st.lists(texts, max_size=3).map(tuple),
    cwd=texts,
    user=texts,
    is_terminal=st.booleans(),
    security=st.sampled_from(o.SecurityMode),
    secret_env=st.lists(st.builds(o.SecretEnv, id=texts, name=texts), max_size=2),
    remove_mount_stubs_recursive=st.booleans(),
    descriptors=st.frozensets(st.integers(0, 2)),
)


@given(processes)
def test_process(value: k.ProcessSpec) -> None:
    assert process_spec_of(init_message("container", value)) == value


@given(
    st.builds(
        c.ResolvedSource,
        identifier=texts,
        attrs=attrs,
        git_checksum=st.none() | st.just("a" * 40),
        http_digest=st.none() | st.just(Digest.of(b"")),
        http_last_modified=st.none(),
    )
)
def test_source(value: c.ResolvedSource) -> None:
    read = m.source_of(m.source_message(value, no_config=False), "")
    assert (read.identifier, read.attrs) == (value.identifier, value.attrs)
    assert read.git_checksum == value.git_checksum
    assert read.http_digest == value.http_digest


def test_warning() -> None:
    value = c.Warning(
        vertex=Digest.of(b"x"),
        short="short",
        level=2,
        detail=["one", "two"],
        url="u",
        ranges=[SourceRange("f", Position(1, 2), Position(3, 4))],
        data=b"text",
    )
    assert m.warning_of(m.warning_message(value)) == value


class _Named:
    def __init__(self, id: str) -> None:
        self.id = id


async def test_results_in_all_forms() -> None:
    named: Any = {id: _Named(id) for id in "abc"}

    async def to_ref(reference: c.Reference | None) -> pb.Ref:
        return pb.Ref() if reference is None else pb.Ref(id=reference.id)  # type: ignore[attr-defined]  # ours

    def from_ref(ref: pb.Ref) -> c.Reference | None:
        return cast("c.Reference | None", named.get(ref.id))

    subject = c.AttestationSubject(name="s", digests=("sha256:1",))
    attestation = c.Attestation(
        kind="bundle",
        ref=named["c"],
        path="/p",
        predicate_type="t",
        metadata={"k": b"v"},
        subjects=[subject, c.AttestationSubject(name="self")],
    )
    for value in (
        c.Result(),
        c.Result(ref=named["a"], metadata={"m": b"\xff"}),
        c.Result(
            refs={"linux/amd64": named["a"], "linux/arm64": None},
            attestations={"linux/amd64": (attestation,)},
        ),
    ):
        message = await m.result_message(value, to_ref)
        assert m.result_of(pb.Result.FromString(message.SerializeToString()), from_ref) == value
    old = pb.Result(refDeprecated="a")
    assert m.result_of(old, from_ref).ref is named["a"]
    old = pb.Result(refsDeprecated=pb.RefMapDeprecated(refs={"x": "b"}))
    assert m.result_of(old, from_ref).refs == {"x": named["b"]}
