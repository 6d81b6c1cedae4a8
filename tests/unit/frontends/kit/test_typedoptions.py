"""Options by a JSON Schema: values, errors, help, documents; and what both ways share."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from torana.core.errors import UserError
from torana.frontends.kit import Image, LowerContext, Place, TextFrontend, option
from torana.frontends.kit.options import InvalidOptionError
from torana.frontends.kit.optiontables import help_of, markdown_of, renewed
from torana.frontends.kit.testing.conformance import FrontendSuite
from torana.frontends.kit.testing.gateway import FakeGateway
from torana.frontends.kit.testing.golden import Golden
from torana.frontends.kit.typedoptions import (
    declaration_of,
    read_options,
    schema_of,
    specs_of,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "jobs": {
            "type": "integer",
            "description": "how many at once",
            "minimum": 1,
            "maximum": 64,
            "default": 4,
        },
        "ratio": {"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5},
        "keep-symbols": {"type": "boolean", "default": False},
        "level": {"enum": ["low", "high", 3]},
        "tags": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[a-z]+$"},
            "uniqueItems": True,
            "maxItems": 3,
        },
        "ports": {"type": "array", "items": {"$ref": "#/$defs/port"}},
        "limits": {
            "type": "object",
            "properties": {"cpu": {"type": "integer"}},
            "additionalProperties": False,
        },
        "address": {"type": "string", "format": "ipv4"},
        "user": {"type": ["string", "null"], "minLength": 2},
        "password-file": {"type": "string"},
        "either": {"anyOf": [{"type": "integer", "minimum": 10}, {"const": "auto"}]},
    },
    "$defs": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
    "dependentRequired": {"password-file": ["user"]},
}


class SchemaFrontend(TextFrontend[str]):
    """Puts its options into the environment."""

    name = "schemed"
    filename = "Schemefile"
    options = SCHEMA

    def parse(self, text: str, whole: Place) -> str:
        return text

    def lower(self, tree: str, context: LowerContext) -> Image:
        values = json.dumps(context.options(), sort_keys=True)
        return context.scratch().env("OPTIONS", values).write("/made", "x")


def test_values_have_their_types() -> None:
    given = {
        "jobs": "8",
        "ratio": "1.5",
        "build-arg:KEEP_SYMBOLS": "true",
        "level": "3",
        "tags": 'a,"b",c',
        "ports": "80,443",
        "limits": '{"cpu": 2}',
        "address": "10.0.0.1",
        "user": "me",
        "password-file": "x",
        "either": "auto",
        "unknown": "left to others",
    }
    assert read_options(SCHEMA, given) == {
        "jobs": 8,
        "ratio": 1.5,
        "keep-symbols": True,
        "level": 3,
        "tags": ["a", "b", "c"],
        "ports": [80, 443],
        "limits": {"cpu": 2},
        "address": "10.0.0.1",
        "user": "me",
        "password-file": "x",
        "either": "auto",
    }


def test_defaults_are_filled_in_and_the_rest_is_left_out() -> None:
    assert read_options(SCHEMA, {}) == {"jobs": 4, "keep-symbols": False}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("jobs", "many", "option `jobs`: not a whole number: `many`"),
        ("jobs", "0", "option `jobs`: less than 1: 0"),
        ("jobs", "65", "option `jobs`: more than 64: 65"),
        ("ratio", "nan", "option `ratio`: not a number: `nan`"),
        ("ratio", "0", "option `ratio`: not more than 0: 0.0"),
        ("ratio", "0.7", "option `ratio`: not a multiple of 0.5: 0.7"),
        ("keep-symbols", "maybe", "option `keep-symbols`: not true or false: `maybe`"),
        ("level", "hihg", "option `level`: not one of `low`, `high`, `3`: `hihg`"),
        ("tags", "a,B", "option `tags`: item 2: does not match `^[a-z]+$`: `B`"),
        ("tags", "a,a", "option `tags`: an item is there twice: `a,a`"),
        ("tags", "a,b,c,d", "option `tags`: more than 3 items: `a,b,c,d`"),
        ("ports", "80,x", "option `ports`: not a list: `80,x`"),
        ("ports", "80,0", "option `ports`: item 2: less than 1: 0"),
        ("limits", "cpu=2", "option `limits`: not a JSON object: `cpu=2`"),
        ("limits", '{"cpu": "x"}', "option `limits`: `cpu`: not a whole number: `x`"),
        ("limits", '{"gpu": 1}', 'option `limits`: has a member that is not known: `{"gpu": 1}`'),
        ("address", "10.0.0", "option `address`: not of the form `ipv4`: `10.0.0`"),
        ("user", "m", "option `user`: shorter than 2 characters: `m`"),
        ("password-file", "x", "option `user` is missing: `password-file` needs it"),
        ("either", "3", "option `either`: less than 10: 3"),
    ],
)
def test_wrong_values(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        read_options(SCHEMA, {name: text})
    assert caught.value.message == message


def test_hints() -> None:
    with pytest.raises(UserError) as caught:
        read_options(SCHEMA, {"level": "hihg"})
    assert caught.value.hint == "did you mean `high`?"
    with pytest.raises(UserError) as caught:
        read_options(SCHEMA, {"jobs": "0"})
    assert caught.value.hint == "how many at once"


def test_what_is_required() -> None:
    schema = {
        "properties": {"token": {"type": "string", "description": "of the index"}},
        "required": ["token"],
    }
    with pytest.raises(InvalidOptionError, match="option `token` is missing") as caught:
        read_options(schema, {})
    assert caught.value.hint == "`--opt token=...`: of the index"


def test_options_that_do_not_go_together() -> None:
    schema = {"properties": {"a": {}, "b": {}}, "not": {"required": ["a", "b"]}}
    assert read_options(schema, {"a": "1"}) == {"a": "1"}
    with pytest.raises(InvalidOptionError, match="options do not go together"):
        read_options(schema, {"a": "1", "b": "2"})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "not declared as a JSON Schema of type object"),
        ({"type": "array"}, "not declared as a JSON Schema of type object"),
        ({"properties": {}, "patternProperties": {"^x": {}}}, "options need names"),
        ({"properties": {"a": {"type": "text"}}}, "not declared as a JSON Schema: properties.a"),
        ({"properties": {"a": {"$ref": "https://example.org/x"}}}, "leads nowhere"),
        ({"properties": {"a": {"type": "integer", "default": "x"}}}, "option `a`: the default"),
    ],
)
def test_a_wrong_declaration_is_the_frontend_s_fault(schema: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_options(schema, {"a": "1"} if "$ref" in str(schema) else {})


def test_builds_with_it(gateway: FakeGateway) -> None:
    built = gateway.build(SchemaFrontend(), "x", jobs="2", user="me")
    told = json.loads(built.config["Env"][-1].partition("=")[2])
    assert told == {"jobs": 2, "keep-symbols": False, "user": "me"}
    with pytest.raises(InvalidOptionError, match="option `jobs`: less than 1"):
        gateway.build(SchemaFrontend(), "x", jobs="0")


def test_outline_has_it(gateway: FakeGateway) -> None:
    outline = gateway.build(SchemaFrontend(), "x", requestid="frontend.outline").answer
    found = {entry["name"]: entry for entry in outline["args"]}
    assert found["JOBS"]["description"] == "how many at once"
    assert found["JOBS"]["value"] == "4"
    assert "PASSWORD_FILE" in found


def test_a_file_beside_the_frontend_declares_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = {"api": 1, "options": {"properties": {"a": {"type": "integer"}}}}
    (tmp_path / "torana-frontend.json").write_text(json.dumps(manifest))
    (tmp_path / "filed.py").write_text(
        "class Filed:\n    options = 'torana-frontend.json'\n"
        "class Missing:\n    options = 'none.json'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import filed  # type: ignore[import-not-found]  # made above

    assert [spec.name for spec in specs_of(declaration_of(filed.Filed()))] == ["a"]
    with pytest.raises(TypeError, match=r"no JSON Schema of options in `none\.json`"):
        declaration_of(filed.Missing)


def test_tables() -> None:
    schema = {
        "properties": {
            "level": {"enum": ["low", "high"], "default": "low", "description": "how | loud"},
            "token": {"type": "string"},
        },
        "required": ["token"],
    }
    assert help_of(schema) == (
        "NAME   TYPE      DEFAULT     DESCRIPTION\n"
        "level  low|high  low         how | loud\n"
        "token  string    (required)  \n"
    )
    table = markdown_of(schema)
    assert "| `level` | `low\\|high` | `low` | `LEVEL` | how \\| loud |" in table
    document = f"# X\n\n{markdown_of({})}\n\nEnd\n"
    assert renewed(document, schema) == f"# X\n\n{table}\n\nEnd\n"
    assert renewed("no marks", schema) == "no marks"


def test_a_dataclass_says_the_same_as_its_schema() -> None:
    """Both ways have one reader: what a dataclass takes, its schema takes as well."""

    @dataclasses.dataclass(frozen=True)
    class Options:
        jobs: int = option(4, minimum=1)
        ratio: float = option(0.5, maximum=1)
        size: Literal[1, 2] = option(1)
        level: Literal["low", "high"] = option("low")
        tags: tuple[str, ...] = option(("a",))

    schema = schema_of(Options)
    for given in ({}, {"jobs": "7", "ratio": "0.25", "size": "2", "level": "high", "tags": "x,y"}):
        made = dataclasses.asdict(read_options(Options, given))
        assert {**made, "tags": list(made["tags"])} == read_options(schema, given)
    for given in ({"jobs": "0"}, {"ratio": "2"}, {"size": "3"}, {"level": "x"}, {"jobs": "?"}):
        with pytest.raises(InvalidOptionError) as one:
            read_options(Options, given)
        with pytest.raises(InvalidOptionError) as other:
            read_options(schema, given)
        assert one.value.message == other.value.message


def test_a_dataclass_needs_no_validator() -> None:
    script = (
        "import sys\n"
        "from dataclasses import dataclass\n"
        "from torana.frontends.kit.typedoptions import option, read_options\n"
        "@dataclass(frozen=True)\n"
        "class O:\n    jobs: int = option(1, minimum=1)\n"
        "assert read_options(O, {'jobs': '2'}).jobs == 2\n"
        "assert 'jsonschema' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_suite_compares_and_writes_manifest_and_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "schemed"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from dataclasses import dataclass\n"
        "from torana.frontends.kit import option\n"
        "@dataclass(frozen=True)\nclass Options:\n    jobs: int = option(4, help='how many')\n"
        "class Schemed:\n    name = 'schemed'\n    options = Options\n"
    )
    manifest, readme = package / "torana-frontend.json", tmp_path / "README.md"
    manifest.write_text('{"api": 1, "summary": "stays"}')
    readme.write_text(f"# Schemed\n\n{markdown_of({})}\n")
    monkeypatch.syspath_prepend(tmp_path)
    import schemed  # type: ignore[import-not-found]  # made above

    class Suite(FrontendSuite):
        frontend = schemed.Schemed()
        documents = (readme,)

    old = Golden(tmp_path)
    with pytest.raises(AssertionError, match="not the options that are declared"):
        Suite().test_manifest_has_the_options(old)
    with pytest.raises(AssertionError, match="its options are old"):
        Suite().test_documents_have_the_options(old)
    new = Golden(tmp_path, is_updating=True)
    Suite().test_manifest_has_the_options(new)
    Suite().test_documents_have_the_options(new)
    Suite().test_manifest_has_the_options(old)
    Suite().test_documents_have_the_options(old)
    assert json.loads(manifest.read_text())["summary"] == "stays"
    assert "| `jobs` | `integer` | `4` | `JOBS` | how many |" in readme.read_text()
