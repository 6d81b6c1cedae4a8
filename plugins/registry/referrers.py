"""Referrers: manifests that say something about another one, such as signatures.

Registries that know the API list them; for others clients keep an index under a tag that is made
of the subject's digest.

Spec: OCI distribution specification, Listing Referrers and Referrers Tag Schema.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from urllib3.exceptions import HTTPError

from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.image import OCI_INDEX
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.connection import finish
from torana.plugins.registry.errors import RegistryError
from torana.plugins.registry.server import Server

_MAX_INDEX: Final = 4 << 20  # bytes


def referrers(
    server: Server, reference: ImageReference, subject: Digest, artifact_type: str = ""
) -> list[Descriptor]:
    """List what refers to `subject`, all or those of one type.

    Raises:
        RegistryAuthError, RegistryError: the registry does not say.
    """
    query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
    found = _read(server, reference, f"referrers/{subject}{query}", subject)
    if found is None:
        found = referrers_by_tag(server, reference, subject)
    return [each for each in found if not artifact_type or each.artifact_type == artifact_type]


def referrers_tag(subject: Digest) -> str:
    """Give the tag of the index that clients keep."""
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"


def referrers_by_tag(
    server: Server, reference: ImageReference, subject: Digest
) -> list[Descriptor]:
    """List what the index has that clients keep; nothing if there is none."""
    tag = referrers_tag(subject)
    return _read(server, reference, f"manifests/{tag}", tag) or []


def _read(
    server: Server, reference: ImageReference, path: str, named: str
) -> list[Descriptor] | None:
    """Read an index; None if there is none."""
    headers = {"Accept": OCI_INDEX}
    url = server.url(reference, path)
    response = server.request("GET", url, reference, named, headers, wanted=(200, 404))
    if response.status == 404:
        finish(response)
        return None
    try:
        data = response.read(_MAX_INDEX, decode_content=True)
        return [Descriptor.from_dict(entry) for entry in json.loads(data)["manifests"] or ()]
    except (
        ValueError,
        RecursionError,
        KeyError,
        TypeError,
        AttributeError,
        InvalidDigestError,
    ) as err:
        raise RegistryError(
            f"{server.endpoint.host}: malformed list of referrers: {reference.name}: {err}"
        ) from None
    except HTTPError as err:
        raise server.broken(reference, named, err) from err
    finally:
        response.close()
