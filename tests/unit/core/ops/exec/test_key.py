from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torana.core.cache.ref import Selector
from torana.core.llb.ops import (
    CacheOpt,
    CacheSharing,
    ExecOp,
    HostIP,
    Meta,
    Mount,
    MountContentCache,
    MountType,
    NetMode,
    ProxyEnv,
    SecretOpt,
    TmpfsOpt,
)
from torana.core.oci.digest import Digest
from torana.core.oci.platform import Platform
from torana.core.ops.exec.errors import InvalidExecOpError
from torana.core.ops.exec.key import exec_key, op_json
from torana.core.ops.keyjson import key_json

AMD64 = Platform(os="linux", architecture="amd64")
ROOT = Mount(input=0, dest="/", output=0)
ROOT_SELECTOR = "sha256:8a5edab282632443219e051e4ade2d1d5bbc671c781051bf1437897cbdfea0f1"


def key(*mounts: Mount, count: int = 1) -> str:
    return exec_key(ExecOp(meta=Meta(args=("true",), cwd="/"), mounts=mounts), AMD64, count).digest


def cache(dest: str, id: str, sharing: CacheSharing = CacheSharing.SHARED) -> Mount:
    return Mount(
        input=-1,
        output=-1,
        dest=dest,
        mount_type=MountType.CACHE,
        cache_opt=CacheOpt(id=id, sharing=sharing),
    )


def test_plain_command() -> None:
    op = ExecOp(
        meta=Meta(args=("/bin/sh", "-c", "echo <hi> & done"), env=("PATH=/bin",), cwd="/"),
        mounts=(ROOT,),
    )
    got = exec_key(op, AMD64, 1)
    assert got.digest.encoded == "aac6678a8ddd36bbaed560935e07598700f72b578dbd2c2f126a433b241a4d41"
    assert got.inputs[0].selector == ROOT_SELECTOR
    assert got.inputs[0].content == ()


def test_everything_that_is_cleared() -> None:
    op = ExecOp(
        meta=Meta(
            args=("true",),
            cwd="/w",
            extra_hosts=(HostIP("h", "1.2.3.4"),),
            proxy_env=ProxyEnv(http_proxy="http://p"),
        ),
        network=NetMode.HOST,
        mounts=(
            ROOT,
            Mount(input=1, selector="sub", dest="/src", output=-1, readonly=True),
            cache("/cache", "/cache"),
            Mount(
                input=-1,
                output=-1,
                dest="/run/secrets/x",
                mount_type=MountType.SECRET,
                secret_opt=SecretOpt(id="x", mode=0o400),
            ),
        ),
    )
    assert key_json(op_json(op)) == (
        b'{"meta":{"args":["true"],"cwd":"/w","extraHosts":[{"Host":"h"}]},"mounts":[{"dest":"/"},'
        b'{"input":1,"dest":"/src","output":-1,"readonly":true},{"input":-1,"dest":"/cache",'
        b'"output":-1,"mountType":3,"cacheOpt":{"ID":"/cache"}},{"input":-1,"dest":"/run/secrets/x",'
        b'"output":-1,"mountType":1,"secretOpt":{"ID":"x","mode":256}}],"network":1}'
    )
    got = exec_key(op, AMD64, 2)
    assert got.digest.encoded == "7b7c5994fe0685a2be31a91eccc488502a769fa7939c9258700ab78ecddd005f"
    second = got.inputs[1]
    assert second.selector is not None
    assert second.selector.encoded == (
        "c3edd766ba41f0cfb937f80f269ab868b00efb92449d2f8f1dff7d7858552364"
    )
    assert second.content == (Selector(path="/sub", follow_links=True),)


def test_own_cache_id_is_no_key() -> None:
    mine = key(ROOT, cache("/cache", "mine", CacheSharing.LOCKED))
    assert mine == "sha256:ed5a988817987da1fad1d4e387868f693c352c82ed2c361f0f0c80444cdcce52"
    assert mine == key(ROOT, cache("/cache", "other"))
    # Locked clears the id even where it is the default.
    assert mine == key(ROOT, cache("/cache", "/cache", CacheSharing.LOCKED))
    # A namespace before the first slash is a default, too, and stays in the key.
    assert key(ROOT, cache("/cache", "ns//cache")) not in (
        mine,
        key(ROOT, cache("/cache", "/cache")),
        key(ROOT, cache("/cache", "ns2//cache")),
    )


def test_empty_option_messages_are_written() -> None:
    mount = Mount(input=-1, output=-1, dest="/t", mount_type=MountType.TMPFS, tmpfs_opt=TmpfsOpt())
    op = ExecOp(meta=Meta(args=("true",), cwd="/"), mounts=(ROOT, mount))
    assert b'"mountType":4,"TmpfsOpt":{}' in key_json(op_json(op))


@pytest.mark.parametrize(
    "root",
    [
        Mount(input=0, dest="/", output=0, readonly=True),
        Mount(input=0, dest="/", output=0, result_id="r"),
        Mount(input=0, dest="/x", output=0),
    ],
)
def test_only_the_plain_root_mount_is_dropped(root: Mount) -> None:
    assert key(root) != key(ROOT)


def test_platform_counts() -> None:
    op = ExecOp(meta=Meta(args=("true",), cwd="/"), mounts=(ROOT,))
    arm = Platform(os="linux", architecture="arm", variant="v7")
    assert exec_key(op, AMD64, 1).digest != exec_key(op, arm, 1).digest


def content(*mounts: Mount, count: int = 1) -> tuple[Selector, ...]:
    return exec_key(ExecOp(mounts=mounts), AMD64, count).inputs[0].content


def test_content_of_whole_input_counts_even_when_written() -> None:
    assert content(Mount(input=0, dest="/x", output=0)) == (Selector(),)
    assert content(Mount(input=0, dest="/x", selector="a", output=0)) == ()
    assert content(Mount(input=0, dest="/", output=0)) == ()
    assert content(Mount(input=0, dest="/", output=0, content_cache=MountContentCache.ON)) == (
        Selector(),
    )


def test_last_mount_of_an_input_decides() -> None:
    off = Mount(input=0, dest="/y", output=-1, content_cache=MountContentCache.OFF)
    on = Mount(input=0, dest="/x", output=-1)
    assert content(on, off) == ()
    assert content(off, on) == (Selector(),)


def test_unsafe_content_key_is_refused() -> None:
    unsafe = Mount(input=0, dest="/x", selector="a", output=0, content_cache=MountContentCache.ON)
    with pytest.raises(InvalidExecOpError, match="invalid mount cache content"):
        content(unsafe)


def test_nested_selectors_are_one() -> None:
    mounts = [
        Mount(input=0, dest=f"/{i}", selector=selector, output=-1)
        for i, selector in enumerate(["b/c", "/b", "a-b", "a", "a/x/../y", "b/c"])
    ]
    assert [selector.path for selector in content(*mounts)] == ["/a", "/a-b", "/b"]
    got = exec_key(ExecOp(mounts=tuple(mounts)), AMD64, 1).inputs[0].selector
    assert got == Digest.of(b"/b/c\0/b\0/a-b\0/a\0/a/y\0/b/c")


@pytest.mark.parametrize("index", [1, -2])
def test_inputs_out_of_range(index: int) -> None:
    with pytest.raises(InvalidExecOpError, match=f"missing input {index}"):
        key(Mount(input=index, dest="/"))


def test_unused_input_and_secret_inputs_contribute_nothing() -> None:
    secret = Mount(input=0, dest="/s", output=-1, mount_type=MountType.SECRET)
    assert exec_key(ExecOp(mounts=(secret,)), AMD64, 1).inputs[0].selector is None


@given(st.lists(st.sampled_from(["/", "a", "a/b", "b", "ab", "a/b/c"]), min_size=1))
def test_every_selected_path_lies_in_exactly_one_content_selector(paths: list[str]) -> None:
    mounts = [Mount(input=0, dest="/x", selector=p, output=-1) for p in paths]
    kept = [s.path for s in content(*mounts)]
    for path in paths:
        full = "/" + path.strip("/") + "/"
        assert sum(full.startswith(k.rstrip("/") + "/") for k in kept) == 1
