"""`write_scaffold`: a new frontend as a project that builds, tests itself and can be published."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Final

from torana.core.errors import ConflictError, UnwritableError, UsageError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TAKEN: Final = frozenset(("dockerfile", "gateway", "mockerfile", "torana", "yaml"))

_PYPROJECT: Final = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "torana-$name"
version = "0.1.0"
description = "Builds ${file}s: a frontend for torana and BuildKit"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["torana"]

[project.optional-dependencies]
dev = ["mypy", "pytest"]

[project.entry-points."torana.frontends"]
$name = "$package:$class"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
$package = ["*.lark", "*.json", "py.typed"]

[tool.mypy]
strict = true
files = ["src", "tests"]
"""

_INIT: Final = '''\
"""The $name frontend."""

from $package.frontend import $class

__all__ = ["$class"]
'''

_FRONTEND: Final = '''\
"""Builds ${file}s."""

from dataclasses import dataclass

from torana.frontends.kit import GrammarFrontend, Image, LowerContext, Tree, option


@dataclass(frozen=True)
class Options:
    """What a user may set: `--opt shell=/bin/bash`, or `--build-arg SHELL=/bin/bash`."""

    shell: str = option("/bin/sh", help="program that runs commands")


class $class(GrammarFrontend):
    """One statement a line; each makes the image a little more."""

    name = "$name"
    filename = "$file"
    grammar = "$name.lark"
    options = Options
    words = {"WORD": "a word", "REST": "some text"}

    async def lower(self, tree: Tree, context: LowerContext) -> Image:
        options = context.options(Options)
        image = context.scratch()
        for statement in tree:
            words = statement.texts("WORD")
            match statement.name:
                case "from":
                    image = await context.image(words[0])
                case "copy":
                    image = image.copy(await context.context(words[0]), *words)
                case "run":
                    image = image.run([options.shell, "-c", statement["REST"].text])
                case "env":
                    image = image.env(words[0], statement["REST"].string)
                case "cmd":
                    image = image.cmd([options.shell, "-c", statement["REST"].text])
        return image
'''

_GRAMMAR: Final = r"""// The language of ${file}s: see https://lark-parser.readthedocs.io/en/stable/grammar.html
start: _NL? (_statement _NL)*

_statement: from | copy | run | env | cmd

from: "from" WORD
copy: "copy" WORD WORD
run: "run" REST
env: "env" WORD "=" REST
cmd: "cmd" REST

// (?<!\w) wants no letter before it: else `runx` were `run x`.
WORD: /(?<!\w)[^\s#=][^\s=]*/
REST: /(?<!\w)[^\s][^\n]*/
_NL: /([ \t]*(#[^\n]*)?\r?\n)+/
%ignore /[ \t]+/
"""

_MANIFEST: Final = """\
{
  "api": 1,
  "summary": "${file}s: one statement a line",
  "files": ["$file"],
  "capabilities": ["inputs", "subrequests", "contexts", "multi-platform", "lint", "outline"],
  "options": {
    "type": "object",
    "properties": {
      "shell": {"type": "string", "description": "program that runs commands", "default": "/bin/sh"}
    }
  },
  "example": "# syntax=$name\\nfrom scratch\\ncopy hello.txt /hello.txt\\n"
}
"""

_TEST: Final = '''\
"""Tests of the $name frontend: no engine, no network, nothing is run."""

from pathlib import Path

from $package import $class

from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.frontends.kit.testing.gateway import FakeGateway

IMAGES = {"alpine:3.20": {"Env": ["PATH=/bin"]}}
CONTEXTS = {"context": {"app.c": ""}}
TEXT = """\\
# What the image is made of.
from alpine:3.20
copy app.c /src/
run cc -o /bin/app /src/app.c
env MODE = fast
cmd app
"""


def test_build() -> None:
    gateway = FakeGateway(images=IMAGES, contexts=CONTEXTS)
    built = gateway.build($class(), TEXT)
    built.assert_copies("/app.c", "/src/")
    built.assert_runs("cc -o /bin/app *")
    assert built.lines_of("cc *") == [4]
    assert built.config["Env"] == ["PATH=/bin", "MODE=fast"]


def test_shell() -> None:
    gateway = FakeGateway(images=IMAGES, contexts=CONTEXTS)
    built = gateway.build($class(), TEXT, shell="/bin/bash")
    assert built.config["Cmd"] == ["/bin/bash", "-c", "app"]


class TestConformance(FrontendSuite):
    """What every frontend should do."""

    frontend = $class()
    images = IMAGES
    contexts = CONTEXTS
    documents = (Path(__file__).parents[1] / "README.md",)
    valid = (TEXT,)
    invalid = (
        "from alpine:3.20\\nrnu make  ### expected `cmd`, `copy`, `env`, `from`, `run`\\n",
        "from nowhere  ### not found\\n",
    )
'''

_WORKFLOW: Final = """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.11"}
      - run: pip install -e '.[dev]'
      - run: mypy
      - run: pytest
"""

_README: Final = """\
# torana-$name

Builds `$file`s with [torana](https://pypi.org/project/torana/) or any BuildKit.

    pip install -e '.[dev]'     # in a virtual environment
    pytest && mypy
    torana build -f example/$file example

## Options

`--opt NAME=VALUE`, or `--build-arg`:

$options

## Where to change what

| file | what it is |
|---|---|
| `src/$package/$name.lark` | the grammar |
| `src/$package/frontend.py` | what each rule means: `lower` |
| `src/$package/torana-frontend.json` | for `torana frontend list` and `show $name` |
| `tests/test_$module.py` | tests, and the conformance suite |

Options are declared in `frontend.py` alone: `pytest --update-golden` writes them into the manifest
and into the table above.

## Publishing

1. `pip wheel --no-deps -w dist .`, then `twine upload dist/*`. Users: `pip install torana-$name`,
   and `# syntax=$name` as the first line of a `$file`.
2. For users of BuildKit without torana:
   `torana frontend publish-image $name -t REGISTRY/$name:0.1.0 --push`, and
   `# syntax=REGISTRY/$name:0.1.0`.
"""

_EXAMPLE: Final = """\
# syntax=$name
from scratch
copy hello.txt /hello.txt
"""

_FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    ".github/workflows/test.yml": _WORKFLOW,
    ".gitignore": "*.egg-info/\n__pycache__/\ndist/\nbuild/\n",
    "src/$package/__init__.py": _INIT,
    "src/$package/frontend.py": _FRONTEND,
    "src/$package/$name.lark": _GRAMMAR,
    "src/$package/torana-frontend.json": _MANIFEST,
    "src/$package/py.typed": "",
    "tests/test_$module.py": _TEST,
    "example/$file": _EXAMPLE,
    "example/hello.txt": "hello\n",
}


def write_scaffold(name: str, folder: Path) -> list[Path]:
    """Make a project for the frontend `name` in `folder`, and give its files.

    Raises:
        UsageError: no frontend can have that name.
        ConflictError: the folder is there and not empty.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"no name for a frontend: `{name}`", hint="lower-case letters, digits and dashes"
        )
    if name in _TAKEN:
        raise UsageError(f"torana has a frontend of that name: `{name}`")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"already there: `{folder}`", hint="name another folder")
    module = name.replace("-", "_")
    words = {
        "name": name,
        "module": module,
        "package": f"torana_{module}",
        "class": "".join(part.capitalize() for part in name.split("-")) + "Frontend",
        "file": f"{name.replace('-', '').capitalize()}file",
    }
    from torana.frontends.kit.optiontables import markdown_of

    words["options"] = markdown_of(json.loads(Template(_MANIFEST).substitute(words))["options"])
    written = []
    try:
        with _whole(folder):
            for path, text in _FILES.items():
                place = folder / Template(path).substitute(words)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(Template(text).safe_substitute(words), "utf-8")
                written.append(place)
    except OSError as err:
        raise UnwritableError(str(folder), err) from err
    return written


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Leave a folder that is missing or empty as it was if what is done in it fails."""
    was_there = folder.exists()
    try:
        yield
    except BaseException:
        for path in (*folder.iterdir(),) if folder.is_dir() else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not was_there and folder.is_dir():
            folder.rmdir()
        raise
