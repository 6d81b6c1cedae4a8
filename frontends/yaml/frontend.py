"""`YamlFrontend`: builds from `build.yaml` files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torana.core.records import dataclass
from torana.frontends.kit.context import BuildContext
from torana.frontends.kit.findings import lint_config, send_findings
from torana.frontends.kit.lint import Linter
from torana.frontends.kit.lock import Lock, read_lock
from torana.frontends.kit.results import PlatformResult, assemble
from torana.frontends.yaml.checks import run_tests
from torana.frontends.yaml.conversion import Conversion
from torana.frontends.yaml.document import Document
from torana.frontends.yaml.includes import open_document
from torana.frontends.yaml.lint import lint
from torana.frontends.yaml.platforms import platforms
from torana.gateway.client.client import Attestation, Client, Result

FILENAME: Final = "build.yaml"
_TESTS: Final = "tests"


@dataclass(frozen=True, slots=True)
class YamlFrontend:
    """The YAML format: stages of typed steps, expressions, templates, tests.

    Spec: docs/frontends/yaml.md.
    """

    name: str = "yaml"

    async def build(self, client: Client) -> Result:
        """Build the file that the options name, or answer a subrequest about it."""
        context = await BuildContext.open(
            client, filename=FILENAME, language="YAML", kind="dockerfile"
        )
        if (request := client.options.get("requestid")) is not None:
            from torana.frontends.yaml.requests import answer_request

            return await answer_request(request, context)
        await context.epoch()
        lock = await read_lock(context)
        document = await open_document(context, lock)
        return await _build(context, document, lock)


async def _build(context: BuildContext, document: Document, lock: Lock) -> Result:
    wanted = platforms(context, document)
    is_multi = context.options.multi_platform or len(wanted) > 1
    conversions = [
        Conversion(
            context=context,
            document=document,
            platform=platform,
            locked=lock.images,
            is_locked=lock.is_strict,
            shows_platform=is_multi,
        )
        for platform in wanted
    ]
    for conversion in conversions:
        conversion.plan()
        await conversion.resolve()
    linter = Linter(lint_config(context))
    lint(document, conversions[0].stages, linter)
    await send_findings(context, linter.findings)
    linter.check()
    results = [await _result(context, conversion) for conversion in conversions]
    return assemble(results, multi_platform=is_multi)


async def _result(context: BuildContext, conversion: Conversion) -> PlatformResult:
    built = conversion.emit()
    asked = context.client.options.get(_TESTS, "")
    if asked != "none":
        await run_tests(conversion, conversion.stages if asked == "all" else conversion.targets)
    platform = conversion.platform
    key = platform.format_all()
    attestations: Sequence[Attestation] = ()
    if context.options.sbom is not None:
        from torana.frontends.kit.scan import Scan, Scanner

        scanner = await Scanner.find(context, context.options.sbom)
        attestations = (await scanner.attest(context, Scan(built.tree), key),)
    return PlatformResult(
        id=key,
        platform=platform,
        ref=await context.solve_result(conversion.marshal(built.tree)),
        config=conversion.config(built),
        base_config=built.base_config,
        epoch=await context.epoch(),
        attestations=attestations,
    )
