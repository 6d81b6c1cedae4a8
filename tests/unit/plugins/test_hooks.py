"""Hooks: documented, typed, used by something built in, and open to others."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.sites import Site

from torana.cli.progress import builtin, open_display
from torana.core.errors import NotFoundError, UsageError, UserError
from torana.core.llb.ops import SourceOp
from torana.core.llb.policy import Policy
from torana.core.ops.source import Source, SourceRequest
from torana.plugins.displays import OpenDisplay
from torana.plugins.exporter import Exporter
from torana.plugins.manager import PluginManager
from torana.plugins.reference import hook_reference, specifications
from torana.plugins.secretreader import SecretReader
from torana.plugins.sources.http import HttpSource
from torana.plugins.testing.displays import DisplaySuite
from torana.plugins.testing.exporters import ExporterSuite
from torana.plugins.testing.policies import PolicySuite
from torana.plugins.testing.secrets import Offered, SecretReaderSuite

ROOT = Path(__file__).resolve().parents[3]


def test_page_is_up_to_date() -> None:
    assert (ROOT / "docs/hooks.md").read_text() == hook_reference()


@pytest.mark.parametrize("hook", specifications(), ids=lambda hook: hook.__name__)
def test_every_hook_is_typed_documented_and_used(hook: object) -> None:
    assert inspect.isfunction(hook)
    signature = inspect.signature(hook)
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
    assert signature.return_annotation is not signature.empty
    text = hook.__doc__ or ""
    if not hook.__name__.startswith("torana_list_") or "runtimes" in hook.__name__:
        assert all(fact in text for fact in ("Named by: ", "Built in: ", "Conformance: "))
    manager = PluginManager().hooks
    manager.register(builtin)
    assert getattr(manager.hook, hook.__name__).get_hookimpls()


class TestFileSecrets(SecretReaderSuite):
    builtins = ("file",)

    @pytest.fixture
    def reader(self) -> SecretReader:
        return PluginManager().secret_reader("file")

    @pytest.fixture
    def offered(self, tmp_path: Path) -> Offered:
        (tmp_path / "token").write_bytes(b"s3cret\n\xff")
        there, missing = {"src": str(tmp_path / "token")}, {"src": str(tmp_path / "other")}
        return Offered("token", there, b"s3cret\n\xff", missing)


class TestVariableSecrets(SecretReaderSuite):
    builtins = ("env",)

    @pytest.fixture
    def reader(self) -> SecretReader:
        return PluginManager().secret_reader("env")

    @pytest.fixture
    def offered(self, monkeypatch: pytest.MonkeyPatch) -> Offered:
        monkeypatch.setitem(os.environb, b"TOKEN_OF_TEST", b"s3cret\xfe")
        return Offered("a", {"env": "TOKEN_OF_TEST"}, b"s3cret\xfe", {"env": "NO_SUCH_TOKEN"})


def source(identifier: str) -> SourceOp:
    return SourceOp(identifier=identifier)


class TestSourcesPolicy(PolicySuite):
    builtins = ("sources",)

    @pytest.fixture
    def policy(self) -> Policy:
        settings = {"allow": ["docker.io/library/*", "git://*"], "deny": ["git://evil.example/*"]}
        (policy,) = PluginManager().policies({"sources": settings})
        return policy

    @pytest.fixture
    def allowed(self) -> list[SourceOp]:
        image = source("docker-image://docker.io/library/alpine:3")
        return [image, source("git://example.org/x.git"), source("local://context")]

    @pytest.fixture
    def denied(self) -> list[SourceOp]:
        image = source("docker-image://docker.io/other/alpine:3")
        return [image, source("https://example.org/x"), source("git://evil.example/x")]


def test_policy_settings_are_checked() -> None:
    plugins = PluginManager()
    with pytest.raises(NotFoundError, match="unknown policy: `nobodys`"):
        plugins.policies({"nobodys": {}})
    with pytest.raises(UserError, match=r"policies\.sources: unknown key: `alow`") as caught:
        plugins.policies({"sources": {"alow": []}})
    assert caught.value.hint == "did you mean `allow`?"


class TestDisplays(DisplaySuite):
    builtins = ("auto", "plain", "quiet", "rawjson", "tty")

    @pytest.fixture(params=builtins)
    def open_display(self, request: pytest.FixtureRequest) -> OpenDisplay:
        found = builtin.torana_find_display(mode=request.param)
        assert found is not None
        return found


class TestExporters(ExporterSuite):
    builtins = ("docker", "image", "local", "oci", "tar")

    @pytest.fixture(params=builtins)
    def exporter(self, request: pytest.FixtureRequest) -> Exporter:
        return PluginManager().exporter(request.param)


def test_unknown_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = PluginManager()
    with pytest.raises(UsageError, match="unknown type of secret: `vault`"):
        plugins.secret_reader("vault")
    with pytest.raises(UsageError, match="unknown snapshotter: `zfs`"):
        plugins.snapshotter("zfs")
    with pytest.raises(UsageError, match="unknown progress display: `bars`") as caught:
        open_display("bars", plugins)
    assert caught.value.hint is not None
    assert "`plain`" in caught.value.hint


OTHERS = """
from torana.core.errors import UserError
from torana.plugins.hookspecs import hookimpl

api = 1

class Vault:
    def check(self, id, fields):
        if set(fields) != {"path"}:
            raise UserError(f"--secret {id}: a vault has `path`")

    async def read(self, id, fields):
        return fields["path"].encode()

class Dots:
    def __init__(self, write):
        self.write = write

    def emit(self, event):
        self.write(".")

    def close(self):
        pass

@hookimpl
def torana_find_secret_reader(type):
    return Vault() if type == "vault" else None

@hookimpl
def torana_find_display(mode):
    return Dots if mode == "dots" else None
"""


@pytest.fixture
def others(installed_site: Site) -> Iterator[PluginManager]:
    installed_site.install("others", plugins={"vault": "others"}, files={"others.py": OTHERS})
    yield PluginManager()


def test_plugins_of_others(others: PluginManager) -> None:
    others.secret_reader("vault").check("a", {"path": "x"})
    assert others.display("dots") is not None


class TestSourceOfOthers:
    def test_wrong_scheme(self, others: PluginManager) -> None:
        assert others.source("no-such-scheme") is None

    def test_built_in(self, others: PluginManager) -> None:
        found: Source | None = others.source("http")
        assert isinstance(found, HttpSource)
        attrs: Mapping[str, str] = {}
        assert SourceRequest(scheme="http", rest="//x", attrs=attrs).scheme in found.schemes
