"""Options that say where a result goes."""

from __future__ import annotations

import pytest

from torana.cli.exports import parse_fields, parse_output, pushes, with_names, with_targets
from torana.core.errors import UsageError
from torana.gateway.engines.engine import ExportRequest


@pytest.mark.parametrize(
    ("text", "export"),
    [
        ("out", ExportRequest(type="local", dest="out")),
        ("-", ExportRequest(type="tar", dest="-")),
        ("type=docker", ExportRequest(type="docker")),
        ("type=docker,dest=-", ExportRequest(type="docker", dest="-")),
        ("type=oci", ExportRequest(type="oci", dest="-")),
        ("type=oci,tar=false,dest=d", ExportRequest(type="oci", dest="d", attrs={"tar": "false"})),
        ("type=registry,name=a", ExportRequest(type="image", attrs={"push": "true", "name": "a"})),
        (
            'type=image,"name=a,b",push=true',
            ExportRequest(type="image", attrs={"name": "a,b", "push": "true"}),
        ),
    ],
)
def test_outputs(text: str, export: ExportRequest) -> None:
    assert parse_output(text) == export


@pytest.mark.parametrize(
    "text",
    [
        "type=local",
        "type=docker,tar=false",
        "type=oci,tar=0",
        "type=registry,dest=x",
        "dest=x",
        "type=oci,x",
    ],
)
def test_wrong_outputs(text: str) -> None:
    with pytest.raises(UsageError, match="invalid -o"):
        parse_output(text)


def test_push_and_load() -> None:
    pushed = ExportRequest(type="image", attrs={"push": "true"})
    loaded = ExportRequest(type="docker")
    folder = ExportRequest(type="local", dest="out")
    assert with_targets([], is_pushed=True, is_loaded=False) == [pushed]
    assert with_targets([folder], is_pushed=True, is_loaded=True) == [folder, pushed, loaded]
    plain = ExportRequest(type="image", attrs={"name": "a"})
    (made,) = with_targets([plain], is_pushed=True, is_loaded=False)
    assert pushes(made) and not pushes(plain)
    archive = ExportRequest(type="docker", dest="x.tar")
    assert with_targets([archive], is_pushed=False, is_loaded=True) == [archive, loaded]
    assert with_targets([loaded], is_pushed=False, is_loaded=True) == [loaded]
    assert with_names([loaded], ["a", "b"]) == [ExportRequest(type="docker", attrs={"name": "a,b"})]


@pytest.mark.parametrize(
    "option, example",
    [
        ("-o", "type=oci"),
        ("--secret", "id=NAME"),
        ("--attest", "type=sbom"),
        ("--cache-to", "type=registry"),
    ],
)
def test_the_hint_of_a_bad_field_is_for_its_option(option: str, example: str) -> None:
    with pytest.raises(UsageError, match="must be a key=value pair: `id`") as caught:
        parse_fields("id", option)
    assert caught.value.hint is not None
    assert f"{option} {example}" in caught.value.hint
