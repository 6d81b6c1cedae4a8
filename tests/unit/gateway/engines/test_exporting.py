"""What is said of a result before it is exported."""

from __future__ import annotations

import pytest

from torana.gateway.client.client import Result
from torana.gateway.engines.exporting import unmade_attestations


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, []),
        ({"attest:sbom": "", "attest:provenance": "mode=min"}, ["provenance", "sbom"]),
        ({"build-arg:BUILDKIT_ATTEST_SBOM": "generator=x"}, ["sbom"]),
        ({"attest:provenance": "mode=max,disabled=true"}, []),
        ({"attestation": "", "build-arg:ATTEST": ""}, []),
    ],
)
def test_attestations_that_nobody_makes(options: dict[str, str], kinds: list[str]) -> None:
    assert unmade_attestations(options, Result()) == kinds
