"""Each built-in of a hook runs through the hook's public suite.

Test classes say which ones they are about: `builtins` in a subclass of a suite.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from torana.cli.progress import builtin as displays
from torana.core.errors import NotFoundError, UsageError
from torana.core.snapshots import choose
from torana.plugins import caches, exporters, policies, runtimes, secretreaders, sources
from torana.plugins.hookspecs import API
from torana.plugins.manager import PluginManager
from torana.plugins.reference import specifications

TESTS = Path(__file__).parents[2]
BUILTINS: dict[str, Callable[[], Iterable[str]]] = {
    "torana_find_source": lambda: sources.SCHEMES,
    "torana_find_exporter": exporters.torana_list_exporters,
    "torana_list_runtimes": lambda: [each.name for each in runtimes.torana_list_runtimes()],
    "torana_find_snapshotter": lambda: [name for name in choose.NAMES if name != "auto"],
    "torana_find_secret_reader": lambda: secretreaders.TYPES,
    "torana_find_policy": lambda: policies.NAMES,
    "torana_find_display": displays.torana_list_displays,
    "torana_find_cache_backend": caches.torana_list_cache_backends,
}


def suites(hook: str) -> list[str]:
    """Give the full names of the suites that the documentation of a hook names."""
    (text,) = (each.__doc__ or "" for each in specifications() if each.__name__ == hook)
    return re.findall(r"`(torana\.[\w.]+Suite)`", text)


def covered(folder: Path) -> Iterator[tuple[str, str]]:
    """Give pairs of suite and built-in from all test classes below `folder`."""
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                yield from ((base, name) for base in bases for name in _builtins(node))


def _builtins(node: ast.ClassDef) -> tuple[str, ...]:
    for part in node.body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "builtins":
            found: tuple[str, ...] = ast.literal_eval(part.value)
            return found
    return ()


def test_each_builtin_frontend_runs_through_its_suite() -> None:
    entries = distribution("torana").entry_points.select(group="torana.frontends")
    found = {name for suite, name in covered(TESTS) if suite == "FrontendSuite"}
    assert found == {entry.name for entry in entries}


def test_each_hook_that_names_a_suite_is_here() -> None:
    assert {each.__name__ for each in specifications() if suites(each.__name__)} == set(BUILTINS)
    assert API == 1


@pytest.mark.parametrize("hook", BUILTINS)
def test_suites_exist(hook: str) -> None:
    for suite in suites(hook):
        module, _, name = suite.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("hook", BUILTINS)
def test_each_builtin_runs_through_its_suite(hook: str) -> None:
    names = {suite.rpartition(".")[2] for suite in suites(hook)}
    assert {name for suite, name in covered(TESTS) if suite in names} == set(BUILTINS[hook]())


def test_lists_without_a_hook_are_of_what_is_found() -> None:
    plugins = PluginManager()
    for scheme in sources.SCHEMES:
        source = plugins.source(scheme)
        assert source is not None
        assert scheme in source.schemes
    assert all(scheme in sources.SCHEMES for name in sources.SCHEMES for scheme in _schemes(name))
    with pytest.raises(UsageError) as caught:
        plugins.secret_reader("nobodys")
    assert caught.value.hint == _known(secretreaders.TYPES)
    assert all(plugins.secret_reader(type) for type in secretreaders.TYPES)
    with pytest.raises(NotFoundError) as unknown:
        plugins.policies({"nobodys": {}})
    assert unknown.value.hint == _known(policies.NAMES)
    assert all(plugins.policies({name: {}}) for name in policies.NAMES)


def _known(names: Iterable[str]) -> str:
    return "known: " + ", ".join(f"`{name}`" for name in names)


def _schemes(name: str) -> Iterable[str]:
    found = PluginManager().source(name)
    return found.schemes if found else ()
