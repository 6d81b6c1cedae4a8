"""`torana frontend check`: an installed frontend against the manifest's schema and the suite."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from torana.core.errors import UnsupportedError, UsageError
from torana.core.records import dataclass
from torana.plugins.installed import FoundFrontend, manifest_text
from torana.plugins.manager import PluginManager

_SUITE = '''\
"""Made by `torana frontend check`."""

from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.plugins.manager import PluginManager


class TestFrontend(FrontendSuite):
    frontend = PluginManager().frontend({name!r})
    valid = {valid!r}
    invalid = ()
    images = {images!r}
    contexts = {contexts!r}
    options = {options!r}
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a frontend is tried with: build files, images that exist, files of the context."""

    files: Sequence[Path] = ()
    images: Sequence[str] = ()
    context: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def manifest_problems(found: FoundFrontend) -> Iterator[str]:
    """Say what is wrong with what a frontend says of itself, without importing it."""
    import json

    from torana.core.oci.reference import InvalidReferenceError, parse_reference
    from torana.plugins.schemas import first_problem, load_schema

    if found.problem:
        yield found.problem
        return
    text = manifest_text(found)
    if text is None:
        yield "there is no torana-frontend.json beside its module"
        return
    schema = load_schema("torana.plugins", "torana-frontend.schema.json")
    problem = first_problem(json.loads(text), schema)
    if problem is not None:
        yield f"torana-frontend.json: {problem[0]}" + (f" ({problem[1]})" if problem[1] else "")
    for alias in found.manifest.aliases:
        try:
            parse_reference(alias)
        except InvalidReferenceError as err:
            yield f"torana-frontend.json: aliases: `{alias}`: {err.message}"


def run_suite(found: FoundFrontend, trial: Trial, plugins: PluginManager) -> int:
    """Run the kit's suite by pytest and give its exit code.

    Raises:
        UnsupportedError: there is no pytest.
        UsageError: there is nothing to build.
        PluginError: the frontend cannot be loaded.
    """
    if importlib.util.find_spec("pytest") is None:
        raise UnsupportedError("the conformance suite needs pytest", hint="pip install pytest")
    plugins.load(found)
    examples = [found.manifest.example] if found.manifest.example else []
    valid = (*examples, *(file.read_text() for file in trial.files))
    if not valid:
        raise UsageError(
            "there is nothing to build",
            hint="name a build file, or give the manifest an `example`",
        )
    text = _SUITE.format(
        name=found.qualified_name,
        valid=valid,
        images={name: {} for name in trial.images},
        contexts={} if trial.context is None else {"context": _files(trial.context)},
        options=dict(trial.options),
    )
    with tempfile.TemporaryDirectory(prefix="torana-check-") as folder:
        (Path(folder) / "test_frontend.py").write_text(text)
        command: tuple[str, ...] = (sys.executable, "-m", "pytest", "-q", "--tb=short")
        own_plugins = ("-p", "no:cacheprovider", "-p", "torana.frontends.kit.testing.plugin")
        # What else is installed has no say in it, not even whether pytest starts.
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        ended = subprocess.run(
            [*command, *own_plugins, "--rootdir", folder, folder], cwd=folder, env=environment
        )
    return ended.returncode


def _files(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
