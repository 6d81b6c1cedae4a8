"""Includes from git, and the lock file of languages of the kit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from torana.core.errors import BuildFileError, ToranaError
from torana.core.llb.ops import SourceOp
from torana.frontends.kit.lock import LockError
from torana.frontends.kit.testing.gateway import FakeGateway


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kittests_{name}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MINI = _load("minifrontend").MiniFrontend()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
URL = "https://example.org/common.git"
FILES = {
    "base.mini": "run one\ninclude parts/two.mini\n",
    "parts/two.mini": "run two\ninclude ../three.mini\n",
    "three.mini": "run three\n",
    "circle.mini": "include circle.mini\n",
    "outside.mini": "include ../x\n",
    "elsewhere.mini": "include https://x.org/y.mini\n",
}


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(
        images={"alpine:3.20": {}},
        repositories={f"{URL}#{COMMIT}": FILES, f"{URL}#refs/tags/v1": FILES},
    )


def test_files_of_a_repository_include_each_other(gateway: FakeGateway) -> None:
    built = gateway.build(MINI, f"include {URL}#{COMMIT}:base.mini\nrun last\n")
    built.assert_runs("one", "two", "three", "last")
    assert built.definition.source is not None
    assert [info.filename for info in built.definition.source.infos][:2] == [
        f"{URL}#{COMMIT}:base.mini", "Minifile",
    ]  # fmt: skip
    # One checkout serves all of them: the same op.
    assert len({(each.identifier, str(each.attrs)) for each in _git_sources(gateway)}) == 1


def test_a_tag_with_the_commit_that_it_must_be(gateway: FakeGateway) -> None:
    address = f"{URL}?tag=v1&checksum={COMMIT}&subdir=three.mini"
    gateway.build(MINI, f"include {address}\n").assert_runs("three")
    (source,) = _git_sources(gateway)
    assert source.identifier.endswith("#refs/tags/v1")
    assert source.attrs["git.checksum"] == COMMIT


def _git_sources(gateway: FakeGateway) -> list[SourceOp]:
    definitions = [each.definition for each in gateway.solved if each.definition is not None]
    kinds = [op.kind for definition in definitions for op in definition.decoded().values()]
    found = [kind for kind in kinds if isinstance(kind, SourceOp)]
    return [each for each in found if each.identifier.startswith("git://")]


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        (f"{URL}#v1:base.mini", f"not pinned: `{URL}`", "name the whole commit"),
        (f"{URL}#{COMMIT[:12]}:base.mini", f"not pinned: `{URL}`", "name the whole commit"),
        (f"{URL}#{COMMIT}", "no file of the repository is named", "#COMMIT:PATH"),
        (f"{URL}?nonsense=1#{COMMIT}:x", 'unexpected query "nonsense"', None),
        (f"{URL}#{COMMIT}:none", f"no such file: `{URL}#{COMMIT}:none`", None),
        (f"{URL}#{COMMIT}:circle.mini", "include cycle: ", None),
        (f"{URL}#{COMMIT}:outside.mini", "outside of the repository: `../x`", None),
        (f"{URL}#{COMMIT}:elsewhere.mini", "not pinned: `https://x.org/y.mini`", "add its digest"),
    ],
)
def test_wrong_addresses(
    gateway: FakeGateway, address: str, message: str, hint: str | None
) -> None:
    with pytest.raises(ToranaError) as caught:
        gateway.build(MINI, f"run x\ninclude {address}\n")
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")
    assert caught.value.sources[-1].ranges[0].start.line == 2


def test_errors_show_each_file_of_the_stack(gateway: FakeGateway) -> None:
    gateway.repositories = {f"{URL}#{COMMIT}": {**FILES, "three.mini": "rnu x\n"}}
    with pytest.raises(BuildFileError, match="found `rnu`") as caught:
        gateway.build(MINI, f"include {URL}#{COMMIT}:base.mini\n")
    names = [excerpt.filename for excerpt in caught.value.sources]
    prefix = f"{URL}#{COMMIT}"
    assert names == [
        f"{prefix}:three.mini", f"{prefix}:parts/two.mini", f"{prefix}:base.mini", "Minifile",
    ]  # fmt: skip


# The lock file.

TEXT = f"from alpine:3.20\ninclude {URL}#{COMMIT}:three.mini\ninclude beside.mini\n"


@pytest.fixture
def beside(gateway: FakeGateway) -> FakeGateway:
    gateway.contexts = {"dockerfile": {"beside.mini": "run beside\n"}}
    return gateway


def _lock(gateway: FakeGateway, text: str = TEXT, **opts: str) -> str:
    answer = gateway.build(MINI, text, requestid="frontend.lock", **opts).answer
    assert answer["name"] == "Minifile.lock"
    return str(answer["lock"])


def _sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_lock_has_images_and_includes(beside: FakeGateway) -> None:
    found = json.loads(_lock(beside))
    assert found["includes"] == {
        f"{URL}#{COMMIT}:three.mini": _sha("run three\n"),
        "beside.mini": _sha("run beside\n"),
    }
    assert list(found["images"]) == ["docker.io/library/alpine:3.20"]


def test_a_locked_image_is_used_by_its_digest(beside: FakeGateway) -> None:
    lock = json.loads(_lock(beside))
    digest = f"sha256:{'7' * 64}"
    lock["images"] = {"docker.io/library/alpine:3.20": digest}
    beside.contexts = {"dockerfile": {"beside.mini": "", "Minifile.lock": json.dumps(lock)}}
    beside.images = {f"docker.io/library/alpine:3.20@{digest}": {}}
    built = beside.build(MINI, TEXT)
    built.assert_reads(f"docker-image://docker.io/library/alpine:3.20@{digest}")
    # What is pinned stays, unless an update is asked for.
    assert json.loads(_lock(beside))["images"] == lock["images"]
    beside.images = {"alpine:3.20": {}}
    assert json.loads(_lock(beside, lock_update="true"))["images"] != lock["images"]


def test_a_strict_build_uses_nothing_else(beside: FakeGateway) -> None:
    with pytest.raises(LockError, match=r"there is no lock file: `Minifile\.lock`"):
        beside.build(MINI, TEXT, locked="true")
    files = {"beside.mini": "run beside\n", "Minifile.lock": _lock(beside)}
    lock = json.loads(files["Minifile.lock"])
    pinned: dict[str, dict[str, str]] = {
        f"{name}@{digest}": {} for name, digest in lock["images"].items()
    }
    beside.contexts = {"dockerfile": files}
    beside.images = {**beside.images, **pinned}
    beside.build(MINI, TEXT, locked="true")
    beside.contexts = {"dockerfile": {**files, "beside.mini": "run other\n"}}
    with pytest.raises(
        LockError, match=r"include differs from the lock file: `beside\.mini`"
    ) as err:
        beside.build(MINI, TEXT, locked="true")
    assert err.value.sources[0].ranges[0].start.line == 3
    with pytest.raises(LockError, match=r"not in the lock file: `docker\.io/library/debian:12`"):
        beside.build(MINI, "from debian:12\n", locked="true")
