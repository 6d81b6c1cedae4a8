"""`Pusher`: brings an image into a repository: blobs first, manifests last.

Blobs that the repository has are not sent.

Spec: OCI distribution specification, Pushing.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import urllib3

from torana.core.content.store import ContentStore
from torana.core.oci import image as oci
from torana.core.oci.descriptor import Descriptor
from torana.core.oci.digest import Digest, InvalidDigestError
from torana.core.oci.reference import ImageReference
from torana.plugins.registry.access import RegistryAccess
from torana.plugins.registry.connection import finish
from torana.plugins.registry.errors import RegistryContentError, RegistryUnreachableError
from torana.plugins.registry.origin import OnBytes
from torana.plugins.registry.referrers import referrers_by_tag, referrers_tag
from torana.plugins.registry.server import Server
from torana.plugins.registry.upload import Upload


class Pusher:
    """Pushes to the repository of one reference, until `stop` is set. Calls block."""

    def __init__(
        self,
        access: RegistryAccess,
        reference: ImageReference,
        content: ContentStore,
        stop: threading.Event | None = None,
    ) -> None:
        self._reference = reference
        self._content = content
        self.stop = stop or threading.Event()
        (endpoint,) = access.settings.endpoints(reference, for_push=True)
        self._servers = [
            Server(access, endpoint, scheme, self.stop, actions="pull,push")
            for scheme in endpoint.schemes
        ]
        self._choosing = threading.Lock()

    def blob(self, blob: Descriptor, on_bytes: OnBytes = lambda count: None) -> None:
        """Bring one blob there, unless it is there.

        Raises:
            RegistryAuthError, RegistryError: the registry does not take it.
            NotFoundError: the blob is not here.
        """
        if not self._has(blob):
            Upload(self._server(), self._reference, blob, self._content, on_bytes).run()

    def has(self, blob: Descriptor) -> bool:
        """Say whether one blob is there, or could be taken there from another repository.

        Raises:
            RegistryAuthError, RegistryError: the registry does not say.
        """
        if self._has(blob):
            return True
        upload = Upload(self._server(), self._reference, blob, self._content, lambda count: None)
        return upload.mount()

    def manifest(self, manifest: Descriptor, named: str) -> None:
        """Put a manifest or index under a tag or its own digest; all it names must be there.

        Raises:
            RegistryAuthError, RegistryError: the registry does not take it.
        """
        data = self._content.read(manifest.digest)
        server = self._server()
        url = server.url(self._reference, f"manifests/{named}")
        headers = {"Content-Type": manifest.media_type}
        response = server.request(
            "PUT", url, self._reference, named, headers, data, wanted=(200, 201)
        )
        finish(response)
        self._check(response, manifest)
        subject = _subject(data)
        if subject is not None and not response.headers.get("OCI-Subject"):
            self._refer(server, subject, manifest, data)

    def _check(self, response: urllib3.BaseHTTPResponse, manifest: Descriptor) -> None:
        answered = response.headers.get("Docker-Content-Digest", "")
        if answered and answered != manifest.digest:
            raise RegistryContentError(
                f"{self._reference}: {self._server().endpoint.host} stored {answered}, not "
                f"{manifest.digest}"
            )

    def _refer(self, server: Server, subject: Digest, manifest: Descriptor, data: bytes) -> None:
        """Note under the subject's tag what refers to it: the registry does not do so itself.

        Spec: OCI distribution specification, Pushing Manifests with Subject.
        """
        known = referrers_by_tag(server, self._reference, subject)
        if manifest.digest in [each.digest for each in known]:
            return
        document = json.loads(data)
        artifact = document.get("artifactType") or document.get("config", {}).get("mediaType")
        entry = replace(
            manifest,
            artifact_type=artifact,
            annotations=document.get("annotations") or {},
            platform=None,
        )
        tag = referrers_tag(subject)
        body = oci.index([*known, entry])
        headers = {"Content-Type": oci.OCI_INDEX}
        url = server.url(self._reference, f"manifests/{tag}")
        finish(server.request("PUT", url, self._reference, tag, headers, body, wanted=(200, 201)))

    def _server(self) -> Server:
        """Give the server by the scheme that works; one thread finds out."""
        with self._choosing:
            while len(self._servers) > 1:
                url = self._servers[0].url(self._reference, "tags/list")
                try:
                    finish(self._servers[0].connection.request("GET", url, {}))
                    del self._servers[1:]
                except RegistryUnreachableError:
                    del self._servers[0]
            return self._servers[0]

    def _has(self, blob: Descriptor) -> bool:
        server = self._server()
        url = server.url(self._reference, f"blobs/{blob.digest}")
        response = server.request("HEAD", url, self._reference, blob.digest, {}, wanted=(200, 404))
        finish(response)
        return response.status == 200


def _subject(data: bytes) -> Digest | None:
    """Give what a manifest says something about."""
    try:
        return Digest.parse(json.loads(data)["subject"]["digest"])
    except (ValueError, RecursionError, KeyError, TypeError, InvalidDigestError):
        return None
