"""A language by its grammar: LLB, places, errors, options, includes, questions."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from torana.core.errors import BuildFileError, ToranaError
from torana.core.oci.digest import Digest
from torana.frontends.kit.lint import InvalidCheckError, LintError
from torana.frontends.kit.testing.gateway import FakeGateway


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"kittests_{name}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MINI = _load("minifrontend").MiniFrontend()
IMAGES = {"alpine:3.20": {"Env": ["PATH=/bin"], "WorkingDir": "/srv"}}


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(images=IMAGES, contexts={"context": {"app.c": "", ".dockerignore": "*.o"}})


def test_lowers(gateway: FakeGateway) -> None:
    built = gateway.build(MINI, "from alpine:3.20\ncopy app.c /src/\nrun make  all\n")
    built.assert_reads("docker-image://docker.io/library/alpine:3.20@sha256:*", "local://context")
    built.assert_copies("/app.c", "/src/")
    built.assert_runs("make  all")
    built.assert_places()
    assert built.lines_of("make*") == [3]
    assert built.config == {"Env": ["PATH=/bin"], "WorkingDir": "/srv"}
    assert 'attr local.excludepatterns=["*.o"]' in built.text()
    assert "name run make  all" in built.text().replace("custom ", "")


def test_platforms(gateway: FakeGateway) -> None:
    text = "from alpine:3.20\nrun uname\n"
    built = gateway.build(MINI, text, platform="linux/arm64,linux/amd64")
    built.assert_platforms("linux/arm64", "linux/amd64")
    assert all(op.platform for _, op in built.ops() if op.kind)
    assert len({d.ops[-1] for d in built.definitions.values()}) == 2


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("form alpine\n", (1, 1, 5), "expected `copy`, `from`, `include`, `run`, `show` or "
         "the end of the file, found `form`", "did you mean `from`?"),
        ("from alpine\ncopy a\n", (2, 7, 8), "expected a word, found the end of the line", None),
        ("from\n", (1, 5, 6), "expected a word, found the end of the line", None),
        ("run x", (1, 6, 7), "expected the end of the line, found the end of the file", None),
        ('copy "a" b\n', (1, 6, 7), 'expected a word, found `"`', None),
        ("run a\nrunn b\n", (2, 1, 5), "expected `copy`, `from`, `include`, `run`, `show` or "
         "the end of the file, found `runn`", "did you mean `run`?"),
        ("frombusybox\n", (1, 1, 12), "expected `copy`, `from`, `include`, `run`, `show` or "
         "the end of the file, found `frombusybox`", None),
    ],
)  # fmt: skip
def test_wrong_files(
    gateway: FakeGateway, text: str, place: tuple[int, int, int], message: str, hint: str | None
) -> None:
    with pytest.raises(BuildFileError) as caught:
        gateway.build(MINI, text)
    assert caught.value.message == message
    assert caught.value.hint == hint
    assert caught.value.at is not None
    start, end = caught.value.at.start, caught.value.at.end
    assert (start.line, start.column, end.column) == place
    assert caught.value.sources[0].data == text.encode()


def test_errors_of_others_get_the_place(gateway: FakeGateway) -> None:
    with pytest.raises(ToranaError, match="not found") as caught:
        gateway.build(MINI, "from alpine:3.20\n\nfrom debian\nrun x\n")
    (excerpt,) = caught.value.sources
    assert [r.start.line for r in excerpt.ranges] == [3]


def test_not_text(gateway: FakeGateway) -> None:
    with pytest.raises(BuildFileError, match="not UTF-8") as caught:
        gateway.build(MINI, b"run a\nrun \xff\n")
    assert caught.value.at is not None and caught.value.at.start.line == 2


def test_options(gateway: FakeGateway) -> None:
    text = "show jobs\nshow keep_symbols\nshow level\nshow extra\nshow user\n"
    options = {"filename": "Minifile", "jobs": "8", "build-arg:KEEP_SYMBOLS": "true"}

    built = asyncio.run(gateway.building_with(MINI, text, {**options, "extra": "a,b"}))
    assert built.config["Env"][1:] == [
        "jobs=8", "keep_symbols=True", "level=Level.LOW", "extra=('a', 'b')", "user=None",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jobs", "many", "option `jobs`: not a whole number: `many`"),
        ("jobs", "0", "option `jobs`: less than 1: 0"),
        ("jobs", "65", "option `jobs`: more than 64: 65"),
        ("keep_symbols", "maybe", "option `keep-symbols`: not true or false: `maybe`"),
        ("level", "hihg", "option `level`: not one of `low`, `high`: `hihg`"),
        ("user", "ME", "option `user`: does not match `^[a-z]+$`: `ME`"),
    ],
)
def test_wrong_options(gateway: FakeGateway, name: str, text: str, message: str) -> None:
    with pytest.raises(ToranaError) as caught:
        gateway.build(MINI, "run x\n", **{name: text})
    assert caught.value.message == message


def test_misspelt_options_are_warned_about(gateway: FakeGateway) -> None:
    skipped = gateway.build(MINI, "# check=skip=UnknownOption\nrun x\n", jbos="3")
    assert not skipped.warnings
    built = gateway.build(MINI, "run x\n", jbos="3", hostname="h", levels="low", other="x")
    assert [w.short for w in built.warnings] == [
        "UnknownOption: there is no option `jbos`: did you mean `jobs`?",
        "UnknownOption: there is no option `levels`: did you mean `level`?",
    ]


def test_warnings_and_lint(gateway: FakeGateway) -> None:
    text = "run ls\nrun MAKE\n"
    built = gateway.build(MINI, text)
    assert [w.short for w in built.warnings] == ["Shouting: `MAKE` shouts (line 2)"]
    answer = gateway.build(MINI, text, requestid="frontend.lint").answer
    assert [w["ruleName"] for w in answer["warnings"]] == ["Shouting"]
    skipped = gateway.build(MINI, "# check=skip=Shouting\nrun MAKE\n", requestid="frontend.lint")
    assert skipped.answer["warnings"] is None
    with pytest.raises(ToranaError, match="lint violation"):
        gateway.build(MINI, "# check=error=true\nrun MAKE\n")
    broken = gateway.build(MINI, "rnu x\n", requestid="frontend.lint").answer
    assert broken["buildError"]["location"]["ranges"] == [
        {"start": {"line": 1}, "end": {"line": 1}}
    ]


def test_outline(gateway: FakeGateway) -> None:
    answer = gateway.build(MINI, "run x\n", requestid="frontend.outline").answer
    assert [(a["name"], a.get("value")) for a in answer["args"]][:3] == [
        ("JOBS", "4"), ("KEEP_SYMBOLS", "false"), ("LEVEL", "low"),
    ]  # fmt: skip


def test_include_has_a_stack_of_places(gateway: FakeGateway) -> None:
    gateway.contexts = {"dockerfile": {"lib/base.mini": "from alpine:3.20\nrun base\n"}}
    built = gateway.build(MINI, "include lib/base.mini\nrun mine\n")
    built.assert_runs("base", "mine")
    source = built.definition.source
    assert source is not None
    (digest,) = [d for d, op in built.ops() if "base" in str(op.kind)]
    stack = [
        (source.infos[place.source_index].filename, place.ranges[0].start.line)
        for place in source.locations[digest].locations
    ]
    assert stack == [("lib/base.mini", 2), ("Minifile", 1)]


def test_include_errors(gateway: FakeGateway) -> None:
    gateway.contexts = {
        "dockerfile": {
            "a.mini": "include b.mini\n",
            "b.mini": "include a.mini\n",
            "c.mini": "rnu\n",
        }
    }
    with pytest.raises(BuildFileError, match=r"include cycle: Minifile -> a.mini -> b.mini -> a"):
        gateway.build(MINI, "include a.mini\n")
    with pytest.raises(BuildFileError, match="found `rnu`") as caught:
        gateway.build(MINI, "run x\ninclude c.mini\n")
    assert [(s.filename, s.ranges[0].start.line) for s in caught.value.sources] == [
        ("c.mini", 1), ("Minifile", 2),
    ]  # fmt: skip
    for address, message in (
        ("no.mini", "no such file: `no.mini`"),
        ("../up.mini", "outside of the build file's folder: `../up.mini`"),
        ("https://example.org/x.mini", "not pinned: `https://example.org/x.mini`"),
    ):
        with pytest.raises(BuildFileError) as caught:
            gateway.build(MINI, f"include {address}\n")
        assert caught.value.message == message


def test_include_of_a_download(gateway: FakeGateway) -> None:
    data = "run far\n"
    digest = hashlib.sha256(data.encode()).hexdigest()
    gateway.urls = {"https://example.org/x.mini": data}
    gateway.build(MINI, f"include https://example.org/x.mini#sha256={digest}\n").assert_runs("far")
    other = Digest.of(b"").encoded
    with pytest.raises(ToranaError, match="digest mismatch"):
        gateway.build(MINI, f"include https://example.org/x.mini#sha256={other}\n")


def test_steps_run_as_the_options_say(gateway: FakeGateway) -> None:
    options = {"force_network_mode": "none", "add_hosts": "db=10.0.0.1", "ulimit": "nofile=1:2"}
    text = gateway.build(MINI, "from alpine:3.20\nrun x\n", **options).text()
    assert "network none" in text
    assert "db" in text and "nofile" in text


def test_the_user_s_check_replaces_that_of_the_file(gateway: FakeGateway) -> None:
    text = "# check=error=true\nrun LOUD\n"
    with pytest.raises(LintError):
        gateway.build(MINI, text)
    options = {"filename": "Minifile", "build-arg:BUILDKIT_DOCKERFILE_CHECK": "skip=all"}
    gateway.warnings.clear()
    asyncio.run(gateway.building_with(MINI, text, options))
    assert not gateway.warnings
    wrong = {**options, "build-arg:BUILDKIT_DOCKERFILE_CHECK": "nonsense"}
    with pytest.raises(InvalidCheckError, match="failed to parse build-arg:BUILDKIT_DOCKERFILE"):
        asyncio.run(gateway.building_with(MINI, text, wrong))


def test_findings_in_an_included_file_show_that_file(gateway: FakeGateway) -> None:
    gateway.contexts = {"dockerfile": {"inner": "run one\nrun LOUD\n"}}
    built = gateway.build(MINI, "include inner\n", requestid="frontend.lint")
    assert b"inner:2" in built.metadata["result.txt"]
    gateway.build(MINI, "include inner\n")
    (warning,) = gateway.warnings
    assert warning.data == b"run one\nrun LOUD\n"
    loads = [str(Digest.of(s.definition.ops[-2])) for s in gateway.solved if s.definition]
    assert str(warning.vertex) in loads and str(warning.vertex) != loads[0]


def test_converts_to_json(gateway: FakeGateway) -> None:
    text = "run ls\n"
    answer = gateway.build(MINI, text, requestid="frontend.convertllb").answer
    ops = gateway.build(MINI, text).definition.decoded()
    assert sorted(answer["def"]) == sorted(str(digest) for digest in ops)
    assert answer["source"]["infos"][0]["filename"] == "Minifile"
