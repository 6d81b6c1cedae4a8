"""Installed frontends: found without being imported, selected, loaded, and told of when broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.sites import Site

from torana.core.errors import NotFoundError, ToranaError
from torana.frontends.dockerfile import DockerfileFrontend
from torana.plugins.installed import FoundFrontend, PluginError
from torana.plugins.manager import PluginManager
from torana.plugins.manifest import FILENAME
from torana.plugins.rules import PluginRules
from torana.plugins.selection import FrontendConflictError


def names(plugins: PluginManager) -> list[str]:
    return [each.qualified_name for each in plugins.frontends() if not each.is_builtin]


def found(plugins: PluginManager, name: str) -> FoundFrontend:
    return next(each for each in plugins.frontends() if each.name == name)


def test_built_in_frontends_come_first_and_have_manifests() -> None:
    first, *_ = PluginManager().frontends()
    assert (first.name, first.distribution, first.problem) == ("dockerfile", "torana", "")
    assert "docker/dockerfile" in first.manifest.aliases
    assert "target" in first.manifest.options["properties"]


def test_listing_imports_nothing(installed_site: Site) -> None:
    manifest = {"aliases": ["acme/just"], "files": ["Justfile"], "summary": "Justfiles"}
    installed_site.frontend("just", version="2.1", manifest=manifest, top="raise SystemExit(3)")
    just = found(PluginManager(), "just")
    assert (just.distribution, just.version) == ("torana-just", "2.1")
    assert (just.manifest.aliases, just.manifest.files) == (("acme/just",), ("Justfile",))
    assert "torana_just" not in sys.modules
    assert str(just) == "`just` of distribution `torana-just` 2.1"


def test_manifest_beside_the_metadata_or_listed_in_the_record(installed_site: Site) -> None:
    info = installed_site.install("one", frontends={"one": "one_module:F"})
    (info / FILENAME).write_text('{"summary": "in the dist-info"}')
    files = {"data/two/torana-frontend.json": '{"summary": "somewhere"}', "two_module.py": ""}
    installed_site.install("two", frontends={"two": "two_module:F"}, files=files)
    plugins = PluginManager()
    assert found(plugins, "one").manifest.summary == "in the dist-info"
    assert found(plugins, "two").manifest.summary == "somewhere"


def test_manifest_of_one_of_two_entry_points(installed_site: Site) -> None:
    files = {
        "pair/__init__.py": "",
        "pair/one/__init__.py": "",
        "pair/one/torana-frontend.json": '{"name": "one", "summary": "first"}',
        "pair/torana-frontend.json": '{"summary": "both"}',
    }
    targets = {"one": "pair.one:F", "two": "pair.one:F"}
    installed_site.install("pair", frontends=targets, files=files)
    plugins = PluginManager()
    assert found(plugins, "one").manifest.summary == "first"
    assert found(plugins, "two").manifest.summary == "both"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "no JSON"),
        ("[]", "must be an object"),
        ('{"aliases": "one"}', "aliases: must be a list of strings"),
        ('{"api": "1"}', "api: must be a number"),
        ('{"api": 2}', "written for plugin api 2, and this Torana has api 1"),
    ],
)
def test_wrong_manifest_is_listed_and_refused(
    installed_site: Site, text: str, problem: str
) -> None:
    installed_site.frontend("odd")
    (installed_site.path / "torana_odd" / FILENAME).write_text(text)
    plugins = PluginManager()
    assert problem in found(plugins, "odd").problem
    with pytest.raises(PluginError, match=r"`odd` of .*`torana-odd` 1\.0 cannot be used"):
        plugins.frontend("odd")
    assert "torana_odd" not in sys.modules


def test_unreadable_entry_points_hide_nobody(installed_site: Site) -> None:
    installed_site.install("bad", "0.3", entry_points="[torana.frontends]\nno equals sign\n")
    installed_site.frontend("good")
    plugins = PluginManager()
    assert names(plugins) == ["torana-good:good"]
    (broken,) = plugins.broken_distributions
    assert (broken.name, broken.version) == ("bad", "0.3")
    assert "entry_points.txt cannot be read" in broken.problem


def test_first_distribution_of_a_name_counts(
    installed_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed_site.frontend("just", version="1.0")
    second = Site(tmp_path / "second")
    second.frontend("just", version="2.0")
    monkeypatch.syspath_prepend(second.path)
    assert [each.version for each in PluginManager().frontends() if each.name == "just"] == ["2.0"]


def test_names_taken_twice(installed_site: Site) -> None:
    installed_site.frontend("just", distribution="one", version="1.1")
    installed_site.frontend("just", distribution="other", version="1.2")
    plugins = PluginManager()
    with pytest.raises(FrontendConflictError, match=r"several distributions: one 1\.1, other 1\.2"):
        plugins.frontend("just")
    assert plugins.find_frontend("other:just").version == "1.2"


def test_unknown_name() -> None:
    with pytest.raises(NotFoundError, match="no such frontend: `dockerfil`") as caught:
        PluginManager().frontend("dockerfil")
    assert caught.value.hint is not None
    assert "did you mean `dockerfile`?" in caught.value.hint


def test_default_frontend_is_built_in_whoever_wants_its_name(installed_site: Site) -> None:
    installed_site.frontend("dockerfile", distribution="other")
    assert isinstance(PluginManager().frontend("dockerfile.v0"), DockerfileFrontend)


@pytest.mark.parametrize(
    ("top", "message"),
    [
        (
            "import nosuchmodule",
            r"failed to load at frontend\.py:5: ModuleNotFoundError: No",
        ),
        ("def broken(:", r"failed to load at frontend\.py:5: SyntaxError"),
        ("raise SystemExit(3)", r"failed to load at frontend\.py:5: SystemExit: 3"),
    ],
)
def test_broken_import_names_plugin_version_and_line(
    installed_site: Site, top: str, message: str
) -> None:
    installed_site.frontend("broken", version="0.7", top=top)
    with pytest.raises(
        PluginError, match=r"`broken` of distribution `torana-broken` 0\.7 " + message
    ) as caught:
        PluginManager().frontend("broken")
    assert caught.value.hint is not None
    assert "--disable-plugin torana-broken" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("class Frontend: pass", "has no `build`"),
        ("class Frontend:\n    api = 7\n    async def build(self, client): ...", "plugin api 7"),
        ("Other = 1", "has no attribute 'Frontend'"),
        ("class Frontend:\n    def __init__(self, x): ...", "failed to load.*TypeError"),
    ],
)
def test_what_is_no_frontend(installed_site: Site, body: str, message: str) -> None:
    files = {"odd.py": body}
    installed_site.install("odd", frontends={"odd": "odd:Frontend"}, files=files)
    with pytest.raises(PluginError, match=message):
        PluginManager().frontend("odd")


@pytest.mark.parametrize(
    ("rules", "usable"),
    [
        (PluginRules(), {"one", "two"}),
        (PluginRules(allowed=frozenset()), set()),
        (PluginRules(allowed=frozenset({"torana-one"})), {"one"}),
        (PluginRules(allowed=frozenset({"two"})), {"two"}),
        (PluginRules(allowed=frozenset({"*"}), disabled=frozenset({"two"})), {"one"}),
        (PluginRules(disabled=frozenset({"torana-one", "two"})), set()),
    ],
)
def test_rules(installed_site: Site, rules: PluginRules, usable: set[str]) -> None:
    installed_site.frontend("one")
    installed_site.frontend("two")
    plugins = PluginManager(rules)
    listed = [each for each in plugins.frontends() if not each.is_builtin]
    assert {each.name for each in listed if not each.problem} == usable
    for each in listed:
        if each.name in usable:
            plugins.load(each)
        else:
            with pytest.raises(PluginError, match=r"disabled by --disable-plugin|not named by"):
                plugins.load(each)


def test_rules_of_the_environment() -> None:
    rules = PluginRules.from_environment({"TORANA_PLUGINS": "Torana_Just, x"})
    assert rules.allowed == frozenset({"torana-just", "x"})
    assert PluginRules.from_environment(rules.environment()) == rules
    assert PluginRules.from_environment({}).allowed is None
    assert PluginRules.from_environment({"TORANA_PLUGINS": ""}).allowed == frozenset()


def test_built_in_frontend_can_be_disabled() -> None:
    plugins = PluginManager(PluginRules(disabled=frozenset({"dockerfile"})))
    with pytest.raises(PluginError, match="disabled by --disable-plugin"):
        plugins.frontend("dockerfile.v0")
    assert plugins.reserved_alias("docker.io/docker/dockerfile") is None


EXPORTER = """
from torana.plugins.hookspecs import hookimpl

class Shout:
    type = "shout"
    title = "shouting"

@hookimpl
def torana_find_exporter(type):
    return Shout() if type == "shout" else None

@hookimpl
def torana_list_exporters():
    return ["shout"]
"""


def test_plugins_of_others_are_loaded_when_asked_for(installed_site: Site) -> None:
    files = {"shout.py": EXPORTER}
    installed_site.install("shout-export", plugins={"shout": "shout"}, files=files)
    plugins = PluginManager()
    plugins.exporter("oci")
    assert "shout" not in sys.modules
    assert plugins.exporter("shout").type == "shout"


def test_broken_plugin_is_skipped_and_named(installed_site: Site) -> None:
    installed_site.install(
        "a-broken", "3.1", plugins={"loud": "loud"}, files={"loud.py": "import nosuchmodule"}
    )
    files = {
        "hooked.py": "from torana.plugins.hookspecs import hookimpl\n"
        "@hookimpl\ndef torana_find_nothing(): ..."
    }
    installed_site.install("b-unknown-hook", plugins={"unknown": "hooked"}, files=files)
    installed_site.install(
        "c-good", plugins={"shout": "shout"}, files={"shout.py": EXPORTER.format(top="")}
    )
    plugins = PluginManager()
    with pytest.raises(ToranaError) as caught:
        plugins.exporter("loud")
    assert caught.value.hint is not None
    assert "`shout`" in caught.value.hint
    assert "`loud` of distribution `a-broken` 3.1 failed to load at loud.py:1" in caught.value.hint
    assert plugins.exporter("shout").type == "shout"
