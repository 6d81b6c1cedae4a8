"""`torana check`: a file is checked by what would build it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.cli.test_build import Project
from tests.sites import Site

pytestmark = pytest.mark.needs("root")

RULE = {
    "ruleName": "Odd",
    "detail": "an odd line",
    "location": {"sourceIndex": 0, "ranges": [{"start": {"line": 1}, "end": {"line": 1}}]},
}
BODY = f"""
        from torana.gateway.client.client import Result
        answer = {json.dumps(json.dumps({"warnings": [RULE]}))}
        return Result(metadata={{"result.json": answer.encode()}})
""".strip()
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def site(site: Site) -> Site:
    site.frontend("odd", manifest={"aliases": ["acme/odd"], "files": ["Oddfile"]}, body=BODY)
    return site


@pytest.mark.parametrize(
    ("name", "text", "arguments"),
    [
        ("Dockerfile", "# syntax=odd\n", ()),
        ("Dockerfile", "# syntax=acme/odd:3\n", ()),
        ("Dockerfile", "FROM scratch\n", ("--syntax", "odd")),
        ("Dockerfile", "FROM scratch\n", ("--build-arg", "BUILDKIT_SYNTAX=odd")),
        ("Dockerfile", "# syntax=dockerfile\n", ("--frontend", "torana-odd:odd")),
        ("Oddfile", "x\n", ()),
        ("some.txt", "x\n", ()),
    ],
)
def test_the_frontend_that_builds_also_checks(
    project: Project, site: Site, name: str, text: str, arguments: tuple[str, ...]
) -> None:
    project.write(name, text)
    project.write("torana.toml", '[frontends.files]\n"*.txt" = "odd"\n')
    result = project.run("check", name, *arguments, PYTHONPATH=str(site.path))
    assert result.returncode == 1, result.stderr
    assert f"{name}:1: Odd: an odd line" in result.stdout


@pytest.mark.parametrize("image", ["docker/dockerfile:1", f"docker/dockerfile:1@{DIGEST}"])
def test_images_of_our_own_frontend_need_not_run(project: Project, image: str) -> None:
    project.write("Dockerfile", f"# syntax={image}\nFROM scratch AS One\n")
    result = project.run("check", ".")
    assert result.returncode == 1
    assert "Dockerfile:2: StageNameCasing" in result.stdout


@pytest.mark.parametrize(
    ("syntax", "arguments", "message", "hint"),
    [
        ("acme/other:1", (), "images are not run to check a file", "`torana build --check`"),
        ("acme/odd:1", ("--strict-syntax",), "images are not run", "`torana build --check`"),
        ("odd", ("--disable-plugin", "odd"), "disabled by --disable-plugin", ""),
        ("./x.py:F", (), "a frontend that is not installed", "--allow-frontend local"),
        ("odd==9", (), "installed in version 1.0, not 9", "pip install"),
    ],
)
def test_refused_at_its_line(
    project: Project, site: Site, syntax: str, arguments: tuple[str, ...], message: str, hint: str
) -> None:
    project.write("Dockerfile", f"# syntax={syntax}\n")
    result = project.run("check", ".", *arguments, PYTHONPATH=str(site.path))
    assert result.returncode == 1
    assert f"   1 | >>> # syntax={syntax}" in result.stderr
    assert message in result.stderr
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


def test_the_project_can_forbid_it(project: Project, site: Site) -> None:
    project.write("torana.toml", '[frontends]\nallowed = ["dockerfile"]\n')
    project.write("Dockerfile", "# syntax=odd\n")
    result = project.run("check", ".", PYTHONPATH=str(site.path))
    assert result.returncode == 1
    assert "the project does not allow this frontend: `odd`" in result.stderr


def test_a_frontend_that_asks_another_one(project: Project, site: Site) -> None:
    site.frontend(
        "outer",
        body="""
        made = scratch().file(mkfile("/x", b"an odd thing")).marshal()
        return await client.solve(
            SolveRequest(frontend="inner", frontend_opt={}, frontend_inputs={"dockerfile": made})
        )
""".strip(),
    )
    site.frontend(
        "inner",
        body="""
        import json
        from torana.gateway.client.client import Result
        found = (await client.inputs())["dockerfile"]
        data = await (await client.solve(SolveRequest(definition=found))).ref.read_file("/x")
        warning = {"ruleName": "Odd", "detail": data.decode(), "location": {}}
        return Result(metadata={"result.json": json.dumps({"warnings": [warning]}).encode()})
""".strip(),
    )
    project.write("x", "# syntax=outer\n")
    done = project.run("check", "x", PYTHONPATH=str(site.path))
    assert "an odd thing" in done.stdout, done.stderr
