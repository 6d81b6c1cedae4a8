"""Syntax lines: what serves them, and why something does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from torana.core.errors import NotFoundError, ToranaError, UserError
from torana.core.oci.reference import parse_reference
from torana.plugins.installed import FoundFrontend
from torana.plugins.manager import PluginManager
from torana.plugins.manifest import Manifest
from torana.plugins.selection import (
    Choice,
    FrontendConflictError,
    FrontendNotAllowedError,
    FrontendRules,
    ImageChoice,
    InstalledChoice,
    LocalChoice,
    PackagedChoice,
    by_file,
    find_named,
    select,
)

ROOT = Path(__file__).resolve().parents[3]


def frontend(name: str, distribution: str, version: str = "1.0", **about: Any) -> FoundFrontend:
    return FoundFrontend(
        name=name,
        target="module:F",
        distribution=distribution,
        version=version,
        manifest=Manifest(**about),
    )


JUST = frontend("just", "torana-just", "1.2", aliases=("acme/just",), files=("Justfile", "*.just"))
MAKE = frontend("make", "Torana.Make", aliases=("acme/make:1", "acme/tools"), files=("*.just",))
TWICE = (frontend("twice", "one", "1"), frontend("twice", "two", "2", aliases=("acme/tools",)))
ALL = (JUST, MAKE, *TWICE)
CONSENTING = FrontendRules(consents=frozenset({"local", "pypi"}), folder=Path("/project"))


def blocked(found: FoundFrontend) -> FoundFrontend:
    return replace(found, problem="disabled by --disable-plugin")


def test_what_is_left_out_takes_no_name_from_others() -> None:
    one, two = TWICE
    rules = FrontendRules()
    for offered in ((blocked(one), two), (two, blocked(one))):
        assert select("twice", rules, lambda offered=offered: offered) == InstalledChoice(two)  # type: ignore[misc]  # a closure
        assert find_named("twice", "one", "", offered) == blocked(one)
    both = [blocked(one), blocked(two)]
    assert find_named("twice", "", "", both) == blocked(one)  # which then says why not
    assert by_file("a.just", (blocked(JUST), MAKE)) == MAKE
    assert by_file("a.just", (blocked(JUST),)) is None
    tools = parse_reference("acme/tools:1")
    assert select("acme/tools:1", rules, lambda: (MAKE, blocked(two))) == InstalledChoice(
        MAKE, tools
    )


def chosen(syntax: str, rules: FrontendRules = CONSENTING) -> Choice:
    return select(syntax, rules, lambda: ALL)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("just", JUST),
        ("just==1.2", JUST),
        ("torana-just:just", JUST),
        ("torana_just:just==1.2", JUST),
        ("torana-make:make", MAKE),
        ("one:twice", TWICE[0]),
        ("twice==2", None),
    ],
)
def test_names(syntax: str, expected: FoundFrontend | None) -> None:
    if expected is None:  # a version does not decide between two distributions
        with pytest.raises(FrontendConflictError, match="one 1, two 2") as caught:
            chosen(syntax)
        assert caught.value.hint == "name one of them: `one:twice` or `two:twice`"
        return
    assert chosen(syntax) == InstalledChoice(expected)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        ("acme/just", JUST),
        ("docker.io/acme/just:3", JUST),
        ("acme/make:1", MAKE),
        ("acme/make:2", None),
        ("example.org/acme/just", None),
        (f"acme/just@sha256:{'a' * 64}", None),
        ("golang", None),
        ("golang:1", None),
    ],
)
def test_images(syntax: str, expected: FoundFrontend | None) -> None:
    choice = chosen(syntax)
    if expected is None:
        assert isinstance(choice, ImageChoice)
    else:
        assert isinstance(choice, InstalledChoice)
        assert (choice.frontend, choice.alias is not None) == (expected, True)


def test_strict_syntax_forbids_aliases_but_not_names() -> None:
    strict = FrontendRules(is_strict=True)
    assert isinstance(chosen("acme/just:1", strict), ImageChoice)
    assert chosen("just", strict) == InstalledChoice(JUST)


def test_alias_taken_twice() -> None:
    with pytest.raises(FrontendConflictError, match=r"image `acme/tools:1` is offered by several"):
        chosen("acme/tools:1")


def test_reserved_aliases_need_no_scan() -> None:
    def scan() -> list[FoundFrontend]:
        raise AssertionError("scanned")

    choice = select("docker/dockerfile:1", FrontendRules(), scan, PluginManager().reserved_alias)
    assert isinstance(choice, InstalledChoice)
    assert choice.frontend.name == "dockerfile"


def test_local_and_packaged() -> None:
    assert chosen("./build/f.py:Make.It") == LocalChoice(Path("/project/build/f.py"), "Make.It")
    assert chosen("pypi:torana-x==1.0rc1") == PackagedChoice("torana-x", "1.0rc1")


@pytest.mark.parametrize(
    ("syntax", "kind"), [("./f.py:F", "local"), ("../f.py:F", "local"), ("pypi:x==1", "pypi")]
)
def test_consent_is_needed(syntax: str, kind: str) -> None:
    with pytest.raises(FrontendNotAllowedError, match="not installed") as caught:
        chosen(syntax, FrontendRules(folder=Path("/project")))
    assert caught.value.hint is not None
    assert f"--allow-frontend {kind}" in caught.value.hint


@pytest.mark.parametrize(
    "syntax", ["pypi:x", "./f.py", "./f:F", "pypi:==1", "/abs", "acme/CASE", "a b"]
)
def test_malformed(syntax: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen(syntax)
    assert caught.value.hint


def test_other_version_is_told() -> None:
    with pytest.raises(NotFoundError, match=r"is installed in version 1\.2, not 2") as caught:
        chosen("just==2")
    assert caught.value.hint == "pip install torana-just==2, or use `pypi:torana-just==2`"
    with pytest.raises(NotFoundError, match="no such frontend: `jus`") as caught:
        chosen("jus==2")
    assert caught.value.hint is not None
    assert "did you mean `just`?" in caught.value.hint


def test_mistyped_name_is_an_image_with_a_hint() -> None:
    choice = chosen("jusst")
    assert isinstance(choice, ImageChoice)
    assert choice.hint == "did you mean `just`?"
    near = chosen("golang")
    assert isinstance(near, ImageChoice)
    assert near.hint == "no installed frontend is called `golang`"


@pytest.mark.parametrize(
    ("allowed", "syntax", "is_fine"),
    [
        ((), "just", False),
        (("just",), "just", True),
        (("torana-just:*",), "just", True),
        (("just",), "acme/just:1", True),
        (("docker.io/acme/*",), "acme/other:1", True),
        (("acme/other",), "acme/other:1", True),
        (("just",), "acme/other:1", False),
        (("pypi:x",), "pypi:x==1", True),
        (("pypi:y",), "pypi:x==1", False),
        (("local",), "./f.py:F", True),
        (("just",), "./f.py:F", False),
    ],
)
def test_projects_can_narrow(allowed: tuple[str, ...], syntax: str, is_fine: bool) -> None:
    rules = FrontendRules(allowed=allowed, consents=CONSENTING.consents, folder=Path("/project"))
    if is_fine:
        chosen(syntax, rules)
        return
    with pytest.raises(FrontendNotAllowedError, match="the project does not allow"):
        chosen(syntax, rules)


def test_file_patterns() -> None:
    assert by_file("Justfile", ALL) is JUST
    assert by_file("Other", ALL) is None
    with pytest.raises(FrontendConflictError, match=r"build file `a\.just` is offered by"):
        by_file("a.just", ALL)


def test_built_in_manifests_fit_the_published_schema() -> None:
    schema = json.loads((ROOT / "docs/schemas/torana-frontend.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    files = list(ROOT.glob("frontends/*/torana-frontend.json"))
    assert files
    for file in files:
        jsonschema.Draft202012Validator(schema).validate(json.loads(file.read_text()))


def test_errors_are_ours() -> None:
    for syntax in ("=", "==1", ":", "a:", "\0", "x" * 5000):
        try:
            chosen(syntax)
        except ToranaError:
            continue
