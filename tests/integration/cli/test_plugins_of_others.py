"""One distribution that implements every hook, as a user of the command line meets it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.integration.cli.test_build import SHELL, Project
from tests.sites import Site

from torana.plugins.reference import specifications

pytestmark = pytest.mark.needs("root", "crun", "busybox")

# What was used writes its name into the file that TRACES names.
PLUGIN = '''
import os
from pathlib import Path

from torana.core.cache.layers import LayerForm
from torana.core.errors import UserError
from torana.core.llb.ops import SourceOp
from torana.core.ops.source import SourceKey
from torana.core.snapshots.choose import Choice
from torana.core.snapshots.native import NativeSnapshotter
from torana.plugins.hookspecs import hookimpl
from torana.plugins.runtimes.crun import CrunRuntime

api = 1


def trace(what):
    with open(os.environ["TRACES"], "a") as file:
        file.write(what + "\\n")


class NoteSource:
    """`note://TEXT`: a tree with one file, of that name and text."""

    schemes = ("note",)

    def open(self, request, services):
        return Note(request.rest, services)


class Note:
    def __init__(self, text, services):
        self.text, self.services = text, services

    async def cache_key(self, index):
        return SourceKey("note:" + self.text)

    async def snapshot(self):
        trace("source")
        new = await self.services.refs.new_mutable(None, description="a note")
        with new.mount() as root:
            (root / self.text).write_text(self.text)
        return await new.commit()


class Notes:
    """Downloads from `notes.invalid` are notes; everything from `bad.invalid` is denied."""

    def __init__(self, settings):
        self.settings = settings

    def apply(self, source):
        trace("policy")
        if "bad.invalid" in source.identifier:
            raise UserError(f"{source.identifier}: {self.settings['reason']}")
        if source.identifier.startswith("https://notes.invalid/"):
            return SourceOp(identifier="note://" + source.identifier.rpartition("/")[2])
        return source


class Lister:
    """Writes the names of the result's files."""

    type = "names"
    title = "exporting names"

    def check(self, attrs):
        if set(attrs) - {"type", "dest"}:
            raise UserError("names have no attributes")

    async def export(self, result, attrs, output, context):
        trace("exporter")
        (only,) = result.platforms
        with only.ref.mount() as root, output.file() as file:
            for path in sorted(Path(root).rglob("*")):
                file.write(f"{path.relative_to(root)}\\n".encode())
        return {"names": "written"}


class Shelf:
    """Counts what would be kept; never gives anything."""

    type = "shelf"

    def reader(self, attrs, context):
        return ShelfReader()

    def writer(self, attrs, context):
        return ShelfWriter()


class ShelfReader:
    async def read(self, progress):
        trace("cache import")
        return ()


class ShelfWriter:
    title = "exporting cache to a shelf"
    form = LayerForm()

    async def write(self, cache, progress):
        trace(f"cache export of {len(cache.config.records) > 0}")
        return {}


class OwnRuntime:
    """crun, under another name."""

    name = "own"

    def __init__(self):
        self.inner = CrunRuntime()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def run(self, *args, **options):
        trace("runtime")
        return await self.inner.run(*args, **options)


class Vault:
    def check(self, id, fields):
        if set(fields) != {"path"}:
            raise UserError(f"--secret {id}: a vault has `path`")

    async def read(self, id, fields):
        trace("secret")
        return ("from " + fields["path"]).encode()


class Dots:
    def __init__(self, write):
        self.write = write

    def emit(self, event):
        self.write("*")

    def close(self):
        trace("display")


@hookimpl
def torana_find_source(scheme):
    return NoteSource() if scheme == "note" else None


@hookimpl
def torana_find_exporter(type):
    return Lister() if type == "names" else None


@hookimpl
def torana_list_exporters():
    return ["names"]


@hookimpl
def torana_list_runtimes():
    return [OwnRuntime()]


def make_plain(root, *, is_mapped_user):
    trace("snapshotter")
    return Choice(NativeSnapshotter(root / "snapshots" / "plain"), "asked for")


@hookimpl
def torana_find_snapshotter(name):
    return make_plain if name == "plain" else None


@hookimpl
def torana_find_secret_reader(type):
    return Vault() if type == "vault" else None


@hookimpl
def torana_find_policy(name, settings):
    return Notes(settings) if name == "notes" else None


@hookimpl
def torana_find_display(mode):
    return Dots if mode == "dots" else None


@hookimpl
def torana_list_displays():
    return ["dots"]


@hookimpl
def torana_find_cache_backend(type):
    return Shelf() if type == "shelf" else None


@hookimpl
def torana_list_cache_backends():
    return ["shelf"]
'''

DOCKERFILE = f"""{SHELL}
FROM base
ADD https://notes.invalid/hello /from-notes
RUN --mount=type=secret,id=key cat /run/secrets/key > /key
"""
ALL = (
    "source", "policy", "exporter", "cache import", "cache export of True", "runtime",
    "snapshotter", "secret", "display",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, site: Site) -> Project:
    site.install(
        "torana-everything", plugins={"all": "everything"}, files={"everything.py": PLUGIN}
    )
    made = Project(tmp_path)
    made.write("torana.toml", "[policies.notes]\nreason = 'it is bad'\n")
    return made


def _build(project: Project, site: Site, *arguments: str) -> tuple[int, str, list[str]]:
    traces = project.folder / "traces"
    traces.write_text("")
    done = project.run(
        "build", ".", "--progress", "dots",
        "--secret", "id=key,type=vault,path=kv/x",
        "--cache-from", "type=shelf", "--cache-to", "type=shelf",
        "-o", f"type=names,dest={project.folder / 'names'}", *arguments,
        PYTHONPATH=str(site.path), TRACES=str(traces), TORANA_RUNTIME="own",
        TORANA_SNAPSHOTTER="plain",
    )  # fmt: skip
    return done.returncode, done.stderr, traces.read_text().splitlines()


def test_a_build_uses_all_of_them(project: Project, site: Site) -> None:
    project.dockerfile(DOCKERFILE)
    code, stderr, traces = _build(project, site)
    assert code == 0, stderr
    assert set(ALL) <= set(traces), f"not used: {sorted(set(ALL) - set(traces))}\n{stderr}"
    names = (project.folder / "names").read_text().splitlines()
    assert {"key", "from-notes"} <= set(names)
    assert "*" in stderr
    assert (project.store / "snapshots" / "plain").is_dir()


def test_mistakes_are_told_by_the_plugin_s_words(project: Project, site: Site) -> None:
    project.dockerfile("FROM scratch\nADD https://bad.invalid/x /x\n")
    code, stderr, _ = _build(project, site)
    assert code == 1
    assert "it is bad" in stderr
    project.dockerfile(DOCKERFILE)
    code, stderr, _ = _build(project, site, "-o", "type=names,dest=x,colour=red")
    assert code == 2, stderr
    assert "names have no attributes" in stderr


def test_there_is_no_hook_beside_these() -> None:
    """A new hook needs its part in the plugin above."""
    implemented = re.findall(r"^def (torana_\w+)\(", PLUGIN, re.MULTILINE)
    assert sorted(implemented) == sorted(hook.__name__ for hook in specifications())
