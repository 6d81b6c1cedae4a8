"""SBOM: one scanner step per platform over what was built.

Spec: conversion reference, section 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from torana.core.errors import ToranaError, UserError
from torana.core.llb import ops as o
from torana.core.llb.state import State, image
from torana.core.llb.vertices import MountSpec
from torana.core.oci.image import parse_config
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.gateway.client.client import Attestation, SolveRequest

_OUT: Final = "/run/out/"
_CORE: Final = "/run/src/core/sbom"
_EXTRAS: Final = "/run/src/extras"
_PREDICATE: Final = "https://spdx.dev/Document"


class ScannerError(UserError):
    """The SBOM scanner cannot be used."""

    code = "SCANNER"


@dataclass(frozen=True, slots=True)
class Scan:
    """What is scanned: the target, and further trees by name."""

    target: State
    extras: Mapping[str, State] = field(default_factory=dict)
    ignore_cache: bool = False


@dataclass(frozen=True, slots=True)
class Scanner:
    """A scanner image with the process that it runs."""

    reference: str
    args: Sequence[str]
    env: Sequence[str]
    parameters: Sequence[str]  # further variables
    cwd: str
    platform: Platform

    @classmethod
    async def find(cls, context: BuildContext, attributes: Mapping[str, str]) -> Scanner:
        """Look the scanner's image up.

        Raises:
            ScannerError: it says no command.
        """
        reference = attributes["generator"]
        try:
            found = await context.client.resolve_source(
                f"docker-image://{reference}", {}, platform=context.build_platform
            )
        except ToranaError as err:
            err.message = f"failed to resolve source metadata for {reference}: {err.message}"
            err.args = (err.message,)
            raise
        config = {} if found.image is None else parse_config(found.image.config).get("config", {})
        args = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
        if not args:
            raise ScannerError(f"scanner {reference} does not have cmd")
        parameters = [
            f"BUILDKIT_SCAN_{key}={value}"
            for key, value in sorted(attributes.items())
            if key != "generator"
        ]
        env = config.get("Env") or ()
        work_dir = config.get("WorkingDir") or "/"
        return cls(reference, args, env, parameters, work_dir, context.build_platform)

    def state(self, scan: Scan, platform_id: str) -> State:
        """Give the tree that the scanner writes."""
        env = [
            *self.env,
            f"BUILDKIT_SCAN_DESTINATION={_OUT}",
            f"BUILDKIT_SCAN_SOURCE={_CORE}",
        ]
        if scan.extras:
            env.append(f"BUILDKIT_SCAN_SOURCE_EXTRAS={_EXTRAS}")
        env += self.parameters
        out = MountSpec(target=_OUT)
        core = MountSpec(target=_CORE, source=scan.target.output, readonly=True)
        extras = [
            MountSpec(target=f"{_EXTRAS}/sbom-{name}", source=state.output, readonly=True)
            for name, state in scan.extras.items()
        ]
        temporary = MountSpec(target="/tmp", type=o.MountType.TMPFS)
        executed = image(self.reference, platform=self.platform).run(
            self.args,
            env=env,
            cwd=self.cwd,
            mounts=(out, core, *extras, temporary),
            sets_path=False,
            remove_mount_stubs_recursive=True,
            platform=self.platform,
            ignore_cache=scan.ignore_cache,
            custom_name=f"[{platform_id}] generating sbom using {self.reference}",
        )
        return executed.mount_state(out)

    async def attest(self, context: BuildContext, scan: Scan, platform_id: str) -> Attestation:
        """Scan trees and say what comes out of it."""
        # The original forgets the target's platform here.
        definition = context.marshal(self.state(scan, platform_id), host_platform())
        return Attestation(
            kind="bundle",
            ref=(await context.client.solve(SolveRequest(definition=definition))).ref,
            predicate_type=_PREDICATE,
            metadata={"reason": b"sbom", "sbom-core": b"sbom"},
        )
