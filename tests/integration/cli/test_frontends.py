"""Installed frontends of others, as a user of the command line meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.cli.test_build import Project
from tests.sites import Site

pytestmark = pytest.mark.needs("root")

MANIFEST = {"aliases": ["acme/just"], "files": ["Justfile"], "summary": "Justfiles"}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def built(
    project: Project, site: Site, text: str, *arguments: str, name: str = "Dockerfile"
) -> tuple[int, str, str]:
    """Build a file that says `text`; gives code, output, and what the frontend wrote."""
    project.write(name, text)
    out = project.folder / "out"
    result = project.run(
        "build", ".", "-f", name, "-o", str(out), *arguments, PYTHONPATH=str(site.path)
    )
    made = out / "just"
    return result.returncode, result.stderr, made.read_text() if made.exists() else ""


@pytest.mark.parametrize(
    ("text", "arguments", "announced"),
    [
        ("# syntax=just", (), False),
        ("; syntax=torana-just:just", (), False),
        ("syntax: just==2.1\n", (), False),
        ("# syntax=acme/just:9", (), True),
        ("FROM scratch", ("--syntax", "just"), False),
        ("# syntax=nothing", ("--build-arg", "BUILDKIT_SYNTAX=just"), False),
        ("", ("--frontend", "just"), False),
    ],
)
def test_selected(
    project: Project, site: Site, text: str, arguments: tuple[str, ...], announced: bool
) -> None:
    site.frontend("just", version="2.1", manifest=MANIFEST)
    code, output, made = built(project, site, text, "--build-arg", "TEXT=hello", *arguments)
    assert (code, made) == (0, "hello"), output
    assert ("`just` of distribution `torana-just` 2.1" in output) == announced


def test_selected_by_the_name_of_the_file(project: Project, site: Site) -> None:
    site.frontend("just", manifest=MANIFEST)
    assert built(project, site, "", name="Justfile")[0] == 0
    project.write("torana.toml", '[frontends.files]\n"*.text" = "just"\n')
    assert built(project, site, "", name="a.text")[0] == 0


@pytest.mark.parametrize(
    ("text", "arguments", "toml", "message", "hint"),
    [
        ("# syntax=just==9", (), "", "is installed in version 1.0, not 9", "pip install"),
        ("# syntax=./f.py:F", (), "", "not installed: `./f.py`", "--allow-frontend local"),
        ("# syntax=just", ("--disable-plugin", "just"), "", "disabled by --disable-plugin", ""),
        (
            "# syntax=just",
            (),
            '[frontends]\nallowed = ["dockerfile"]',
            "the project does not allow this frontend: `just`",
            "torana.toml allows `dockerfile`",
        ),
        ("FROM scratch", (), "[frontend]", "unknown key: `frontend`", "did you mean `frontends`"),
    ],
)
def test_refused_with_the_line_and_a_hint(
    project: Project,
    site: Site,
    text: str,
    arguments: tuple[str, ...],
    toml: str,
    message: str,
    hint: str,
) -> None:
    site.frontend("just", manifest=MANIFEST)
    project.write("torana.toml", toml)
    code, output, _ = built(project, site, text, *arguments)
    assert code == 1
    assert message in output
    assert hint in output
    assert "Traceback" not in output
    if text.startswith("# syntax"):
        assert f"1 | >>> {text}" in output


def test_policy_of_the_project(project: Project) -> None:
    project.write("torana.toml", '[policies.sources]\nallow = ["docker.io/library/*"]\n')
    project.write("Dockerfile", "FROM scratch\nADD http://127.0.0.1:9/x /\nCOPY Dockerfile /\n")
    result = project.run("build", ".")
    assert result.returncode == 1
    assert '"http://127.0.0.1:9/x" denied by policy' in result.stderr
    project.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")
    assert project.run("build", ".").returncode == 0


def test_local_frontend(project: Project, site: Site) -> None:
    site.frontend("just")
    source = (site.path / "torana_just/frontend.py").read_text()
    project.write("builder.py", source)
    code, output, made = built(
        project,
        site,
        "# syntax=./builder.py:Frontend",
        "--allow-frontend=local",
        "--build-arg",
        "TEXT=x",
    )
    assert (code, made) == (0, "x"), output


def test_plain_build_imports_no_other_frontend(project: Project, site: Site) -> None:
    site.frontend("just", manifest=MANIFEST, top="import os; os._exit(9)")
    project.write("Dockerfile", "FROM scratch\n")
    result = project.run("build", ".", PYTHONPATH=str(site.path), PYTHONVERBOSE="1")
    assert result.returncode == 0
    assert "import 'torana.frontends.dockerfile.frontend'" in result.stderr
    assert "torana_just" not in result.stderr
    assert "torana.frontends.yaml" not in result.stderr


def test_check_runs_the_suite(project: Project, site: Site) -> None:
    pytest.importorskip("torana.frontends.kit.testing.conformance")
    passed = project.run("frontend", "check", "mockerfile", "--image", "debian:12")
    assert passed.returncode == 0, passed.stdout
    assert " passed" in passed.stdout
    site.frontend("just", manifest={"filez": [], "api": 1})
    project.write("Justfile", "anything")
    failed = project.run("frontend", "check", "just", "Justfile", PYTHONPATH=str(site.path))
    assert failed.returncode == 1
    assert "torana-frontend.json: unknown key: `filez` (did you mean `files`?)" in failed.stderr
    assert "test_each_op_has_a_place" in failed.stdout
    nothing = project.run("frontend", "check", "just", PYTHONPATH=str(site.path))
    assert nothing.returncode == 2
    assert "there is nothing to build" in nothing.stderr


def test_list_and_show(project: Project, site: Site) -> None:
    options = {"type": "object", "properties": {"level": {"type": "integer", "default": 3}}}
    manifest = {**MANIFEST, "options": options, "example": "build:\n  echo\n"}
    site.frontend("just", version="2.1", manifest=manifest, top="import os; os._exit(9)")
    site.frontend("just", distribution="other", version="1")
    site.install("bad", "0.3", entry_points="[torana.frontends]\nno\n")
    listed = project.run("frontend", "list", PYTHONPATH=str(site.path))
    assert listed.returncode == 0, listed.stderr
    assert "just        2.1      1    torana-just  confined" in listed.stdout
    assert "! frontend `just`: offered by `other:just` and `torana-just:just`" in listed.stdout
    assert "! distribution `bad` 0.3: its entry_points.txt cannot be read" in listed.stdout
    records = json.loads(
        project.run("frontend", "list", "--json", PYTHONPATH=str(site.path)).stdout
    )
    (record,) = [each for each in records["frontends"] if each["distribution"] == "torana-just"]
    assert (record["version"], record["api"], record["aliases"]) == ("2.1", 1, ["acme/just"])
    assert [each["distribution"] for each in records["broken"]] == ["bad"]
    shown = project.run("frontend", "show", "torana-just:just", PYTHONPATH=str(site.path))
    assert "level  integer  3" in shown.stdout
    assert "  build:\n    echo\n" in shown.stdout
    assert project.run("frontend", "show", "nothing").returncode == 1


def test_names_taken_twice(project: Project, site: Site) -> None:
    manifest = {"api": 1, "aliases": ["acme/just"], "files": ["*.just"]}
    for name in ("one", "other"):
        site.frontend("just", distribution=name, version="1.1", manifest=manifest)
    path = {"PYTHONPATH": str(site.path)}
    for text, what in (
        ("# syntax=just\n", "frontend `just`"),
        ("# syntax=acme/just:1\n", "image `acme/just:1`"),
        ("", "build file `x.just`"),
    ):
        project.write("x.just", text)
        failed = project.run("build", "-f", "x.just", ".", **path)
        assert failed.returncode == 1
        assert f"{what} is offered by several distributions: one 1.1, other 1.1" in failed.stderr
        assert "hint: name one of them: `one:just` or `other:just`" in failed.stderr
        for arguments, variables in (
            (("--syntax", "other:just"), {}),
            (("--disable-plugin", "one"), {}),
            ((), {"TORANA_PLUGINS": "other"}),
            ((), {"TORANA_DISABLED_PLUGINS": "one:just"}),
        ):
            built = project.run("build", "-f", "x.just", *arguments, ".", **path, **variables)
            assert built.returncode == 0, built.stderr
    project.write("x.just", "# syntax=one:just\n")  # who reads it is not the name's to say
    assert project.run("build", "-f", "x.just", ".", **path).returncode == 0
    listed = project.run("frontend", "list", **path).stdout
    for what in ("frontend `just`", "image `acme/just`", "build files `*.just`"):
        assert f"! {what}: offered by `one:just` and `other:just`" in listed
    assert (
        "offered by"
        not in project.run("frontend", "list", "--disable-plugin", "one", **path).stdout
    )
    shown = project.run("frontend", "show", "one:just", **path).stdout
    assert "! image `acme/just`: offered by `one:just` and `other:just`" in shown
    unknown = project.run("frontend", "show", "jest", **path)
    assert "installed: `dockerfile`" in unknown.stderr
    assert "`one:just`, `other:just`" in unknown.stderr
