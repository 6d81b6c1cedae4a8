"""`DockerfileFrontend`: builds Dockerfiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torana.core.errors import ToranaError
from torana.core.oci.platform import Platform, host_platform
from torana.core.records import dataclass
from torana.frontends.dockerfile.convert import Conversion
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.findings import given_lint_config, lint_config, send_findings
from torana.frontends.kit.forward import forward, required_caps
from torana.frontends.kit.lint import Linter
from torana.frontends.kit.options import parse_options
from torana.frontends.kit.results import PlatformResult, assemble
from torana.gateway.client.client import Attestation, Client, Result

if TYPE_CHECKING:
    from torana.frontends.kit.scan import Scanner


@dataclass(frozen=True, slots=True)
class DockerfileFrontend:
    """The Dockerfile language, as BuildKit's own frontend reads it.

    Spec: Dockerfile reference; equal LLB bytes are promised.
    """

    name: str = "dockerfile"

    async def build(self, client: Client) -> Result:
        """Build the file that the options name, or answer a subrequest about it."""
        options = parse_options(client.options)
        given_lint_config(options.build_args)
        late_caps = required_caps(client.options)
        context = await BuildContext.open(
            client, filename="Dockerfile", language="Dockerfile", kind="dockerfile", options=options
        )
        if (forwarded := await forward(context)) is not None:
            return forwarded
        late_caps.check()
        if (request := client.options.get("requestid")) is not None:
            from torana.frontends.dockerfile.requests import answer_request

            return await answer_request(request, context)
        scanner = None
        if context.options.sbom is not None:
            from torana.frontends.kit.scan import Scanner

            scanner = await Scanner.find(context, context.options.sbom)
        return await _build(context, scanner)


async def _build(context: BuildContext, scanner: Scanner | None) -> Result:
    config = lint_config(context)
    asked: Sequence[Platform | None] = context.options.platforms or (None,)
    conversions = []
    for number, platform in enumerate(asked):
        linter = Linter(config, is_active=number == 0)
        conversion = Conversion(context=context, platform=platform, linter=linter)
        try:
            await conversion.evaluate()
        finally:
            await send_findings(context, linter.findings)
        conversions.append(conversion)
    emitters = {}
    refs = {}
    # Sorted by id, as results of several platforms are reported; scans come last.
    for conversion in sorted(conversions, key=_id):
        emitter = emitters[_id(conversion)] = conversion.emitter()
        try:
            definition = conversion.marshal(emitter.stage(conversion.found_target))
        except ToranaError as err:
            err.message = f"failed to marshal LLB definition: {err.message}"
            err.args = (err.message,)
            raise
        refs[_id(conversion)] = await context.solve_result(definition)
    attestations: dict[str, Sequence[Attestation]] = {}
    if scanner is not None:
        from torana.frontends.dockerfile.scanned import scan_of

        for key in sorted(emitters):
            conversion = next(other for other in conversions if _id(other) == key)
            scan = scan_of(conversion, emitters[key])
            attestations[key] = (await scanner.attest(context, scan, key),)
    results = [
        PlatformResult(
            id=_id(conversion),
            platform=_result_platform(conversion),
            ref=refs[_id(conversion)],
            config=conversion.found_target.current_image.to_json(),
            base_config=conversion.found_target.base_config,
            epoch=conversion.epoch,
            attestations=attestations.get(_id(conversion), ()),
        )
        for conversion in conversions
    ]
    return assemble(results, multi_platform=context.options.multi_platform)


def _id(conversion: Conversion) -> str:
    return (conversion.platform or host_platform()).format_all()


def _result_platform(conversion: Conversion) -> Platform:
    platform = conversion.platform or host_platform()
    image = conversion.found_target.current_image.platform
    if platform.os == "windows" and image.os_version and not platform.os_version:
        return replace(platform, os_version=image.os_version)
    return platform
