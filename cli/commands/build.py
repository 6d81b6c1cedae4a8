"""`torana build`: run a build and its exports."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from torana.cli import memo, progress
from torana.cli.access import parse_agent, parse_secret, read_policy
from torana.cli.caches import parse_cache_from, parse_cache_to
from torana.cli.calls import Call, parse_call, show
from torana.cli.contexts import (
    Inputs,
    read_build_contexts,
    read_inputs,
    read_locals,
    scratch_folder,
)
from torana.cli.engines import address_of, engine_options, open_engine
from torana.cli.exports import (
    fills_folder,
    parse_output,
    pushes,
    with_annotations,
    with_names,
    with_targets,
)
from torana.cli.frontendoptions import HOST_NETWORK, frontend_options
from torana.cli.frontends import (
    default_syntax,
    frontend_rules,
    plugin_manager,
    plugin_options,
    project_of,
    syntax_option,
)
from torana.cli.recording import Recording
from torana.cli.report import summarize, write_files
from torana.core.errors import UsageError
from torana.gateway.engines.engine import BuildRequest, BuildResult, ExportRequest
from torana.plugins.project import FILENAME as PROJECT_FILENAME
from torana.plugins.project import candidates


@click.command()
@click.argument("path", required=False)
@click.option("-f", "--file", "file", metavar="FILE", help="The build file.  [PATH/Dockerfile]")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="Name of the image.")
@click.option("--target", metavar="STAGE", help="Stage to build.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME[=VALUE]")
@click.option("--build-context", "build_contexts", multiple=True, metavar="NAME=FOLDER|ADDRESS")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE")
@click.option("--annotation", "annotations", multiple=True, metavar="[TYPE:]KEY=VALUE")
@click.option("--platform", multiple=True, metavar="PLATFORM[,...]")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FOLDER|type=TYPE[,dest=PATH,...]",
    help="Where the result goes: oci, docker, tar, local or image.",
)
@click.option("--push", "is_pushed", is_flag=True, help="Push the image to where its names say.")
@click.option("--load", "is_loaded", is_flag=True, help="Load the image into a Docker daemon.")
@click.option(
    "--cache-from",
    "cache_imports",
    multiple=True,
    metavar="NAME|type=TYPE[,KEY=VALUE...]",
    help="Use a cache that was exported: type=registry,ref=NAME, type=local,src=FOLDER.",
)
@click.option(
    "--cache-to",
    "cache_exports",
    multiple=True,
    metavar="NAME|type=TYPE[,KEY=VALUE...]",
    help="Export the build cache: type=registry,ref=NAME, type=local,dest=FOLDER, type=inline.",
)
@click.option("--no-cache", is_flag=True, help="Run every step again.")
@click.option("--no-cache-filter", "no_cache_filter", multiple=True, metavar="STAGE")
@click.option(
    "--no-file-index",
    is_flag=True,
    envvar="TORANA_NO_FILE_INDEX",
    show_envvar=True,
    help="Read all files of local folders, also those that look unchanged.",
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Run the frontend in a process of its own, without network, rights or a place to write.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep what the frontend asks and is answered, for `torana replay`.",
)
@click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]")
@click.option("--ssh", "agents", multiple=True, metavar="ID[=SOCKET|KEY,...]")
@click.option("--allow", multiple=True, metavar="ENTITLEMENT")
@click.option(
    "--source-policy-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    envvar="EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
    show_envvar=True,
    help="Rules that allow, deny or change sources (JSON).",
)
@click.option("--network", metavar="default|host|none", help="Network of RUN steps.")
@click.option("--add-host", "add_hosts", multiple=True, metavar="NAME=ADDRESS")
@click.option("--shm-size", metavar="BYTES", help="Size of /dev/shm in RUN steps.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]")
@click.option("--cgroup-parent", metavar="CGROUP")
@click.option("--locked", is_flag=True, help="Use nothing that the lock file does not pin.")
@click.option("--pull", is_flag=True, help="Look base images up in their registries.")
@click.option("--attest", "attests", multiple=True, metavar="type=TYPE[,KEY=VALUE...]")
@click.option("--sbom", metavar="true|GENERATOR", help="Short for --attest type=sbom.")
@click.option("--provenance", metavar="true|MODE", help="Short for --attest type=provenance.")
@click.option(
    "--call",
    metavar="METHOD[,format=json]",
    help="Ask instead of building: check, outline, targets.",
)
@click.option("--check", "is_check", is_flag=True, help="Short for --call=check.")
@click.option(
    "--progress",
    "mode",
    metavar="auto|plain|tty|rawjson|quiet|NAME",
    default="auto",
    show_default=True,
    envvar="BUILDKIT_PROGRESS",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's digest.")
@click.option("--metadata-file", type=click.Path(dir_okay=False), help="Write the answer as JSON.")
@click.option("--iidfile", type=click.Path(dir_okay=False), help="Write the image's digest.")
@click.option("--frontend", metavar="NAME", help="Frontend to run.  [dockerfile.v0]")
@click.option("--local", "locals_", multiple=True, metavar="NAME=FOLDER")
@click.option("--opt", "opts", multiple=True, metavar="KEY=VALUE", help="Option of the frontend.")
@plugin_options
@engine_options
def build(path: str | None, **options: Any) -> int:
    """Build PATH (default: the folder you are in) and give the result to -o or -t.

    PATH is a folder, `-` for a build file or archive on standard input, or an address of a git
    repository (`https://host/x.git#ref:subfolder`), an archive or a build file.

    The long form names everything itself: --frontend, --local and --opt.
    """
    call = parse_call(options["call"], is_check=options["is_check"])
    if call is not None:
        return _ask(call, path, options)
    begun = memo.Beginning()
    with scratch_folder(path, options["file"]) as scratch:
        request = make_request(path, options, scratch)
        mode = "quiet" if options["quiet"] else options["mode"]
        recording = Recording(progress.open_display(mode, plugin_manager(options)))
        try:
            result = asyncio.run(_run(request, recording, options))
        finally:
            recording.close()
    write_files(result, options["metadata_file"], options["iidfile"])
    stdout, stderr = summarize(
        request, result, is_quiet=options["quiet"], address=address_of(options)
    )
    sys.stderr.write(stderr)
    sys.stdout.write(stdout)
    if "-" not in (path, options["file"]) and not address_of(options):
        _remember(request, result, recording, mode, options, begun, stdout, stderr)
    return 0


def _ask(call: Call, path: str | None, options: Mapping[str, Any]) -> int:
    """Let the frontend answer a question; gives the exit code that goes with the answer."""

    async def ask(request: BuildRequest) -> Mapping[str, bytes]:
        async with open_engine(options) as engine:
            return await engine.ask(request, progress.open_display("quiet"))

    with scratch_folder(path, options["file"]) as scratch:
        unwanted = {"outputs": (), "tags": (), "is_pushed": False, "is_loaded": False}
        request = make_request(path, {**options, **unwanted}, scratch)
        asked = {**request.options, "requestid": call.request}
        answer = asyncio.run(ask(replace(request, options=asked)))
    text, code = show(call, answer)
    sys.stdout.write(text)
    return code


async def _run(
    request: BuildRequest, recording: Recording, options: Mapping[str, Any]
) -> BuildResult:
    async with open_engine(options) as engine:
        return await engine.build(request, recording)


def make_request(
    path: str | None, options: Mapping[str, Any], scratch: Path | None = None
) -> BuildRequest:
    """Read a command line; `scratch` is a folder for a build file from standard input.

    Raises:
        UsageError: options are wrong or contradict each other.
    """
    inputs = _inputs(path, options, scratch)
    project = project_of(inputs.folders)
    plugins = plugin_manager(options)
    named = read_build_contexts(options.get("build_contexts", ()))
    wanted = with_targets(
        [parse_output(text) for text in options.get("outputs", ())],
        is_pushed=bool(options.get("is_pushed")),
        is_loaded=bool(options.get("is_loaded")),
    )
    outputs = with_names(wanted, options.get("tags", ()))
    allow = frozenset(options.get("allow", ()))
    return BuildRequest(
        frontend=options["frontend"] or "dockerfile.v0",
        is_isolated=bool(options.get("isolate")),
        record=options.get("record"),
        is_frontend_remote=bool(options.get("remote_frontend")),
        rules=frontend_rules(options, inputs.folders, project),
        find_syntax=partial(default_syntax, inputs.options, inputs.folders, project, plugins),
        has_file_index=not options.get("no_file_index"),
        options={
            **inputs.options,
            **named.options,
            **frontend_options(options),
            **syntax_option(options),
        },
        local_dirs={**inputs.folders, **named.folders},
        oci_layouts=named.layouts,
        exports=_checked(with_annotations(outputs, options.get("annotations", ()))),
        cache_imports=[parse_cache_from(text) for text in options.get("cache_imports", ())],
        cache_exports=[parse_cache_to(text) for text in options.get("cache_exports", ())],
        secrets=[parse_secret(text, plugins) for text in options.get("secrets", ())],
        agents=[parse_agent(text) for text in options.get("agents", ())],
        source_policy=read_policy(options.get("source_policy_file")),
        policies=plugins.policies(project.policies),
        allow=allow | ({HOST_NETWORK} if options.get("network") == "host" else set()),
    )


def _inputs(path: str | None, options: Mapping[str, Any], scratch: Path | None) -> Inputs:
    if options["frontend"] and options["locals_"]:
        if path is not None or options["file"] is not None:
            raise UsageError("PATH and -f do not go with --frontend and --local")
        return Inputs(read_locals(options["locals_"]))
    return read_inputs(path or ".", options["file"], options["locals_"], scratch)


def _checked(exports: Sequence[ExportRequest]) -> list[ExportRequest]:
    """Refuse what would only fail after the build."""
    if sum(export.dest == "-" for export in exports) > 1:
        raise UsageError("only one -o can go to standard output")
    for export in exports:
        if export.dest == "-" and os.isatty(1):
            raise UsageError(
                f"-o type={export.type} would go to the terminal",
                hint="add dest=FILE, or redirect standard output",
            )
        if export.dest not in (None, "-"):
            assert export.dest is not None
            path = Path(export.dest).absolute()
            is_folder = fills_folder(export.type, export.attrs)
            if not is_folder and not path.parent.is_dir():
                raise UsageError(f"-o: no such folder: `{path.parent}`")
            if path.exists() and path.is_dir() != is_folder:
                what = "no folder" if is_folder else "a folder"
                raise UsageError(f"-o: dest of type={export.type} is {what}: `{export.dest}`")
    return list(exports)


def _remember(
    request: BuildRequest,
    result: BuildResult,
    recording: Recording,
    mode: str,
    options: Mapping[str, Any],
    begun: memo.Beginning,
    stdout: str,
    stderr: str,
) -> None:
    """Leave a memo, where the same command would do nothing but look."""
    trees = result.reproducible_from
    is_plain = not (
        request.secrets or request.agents or options["no_cache"] or options["no_cache_filter"]
    )
    is_plain = is_plain and request.record is None and request.source_policy is None
    is_plain = is_plain and not (request.cache_imports or request.cache_exports)
    is_plain = is_plain and not request.policies
    is_plain = is_plain and request.has_file_index  # a memo trusts what `stat` says, too
    if trees is None or not is_plain or mode == "rawjson":
        return
    watches = [memo.Watch(str(tree.root), tree.paths, tree.pruned) for tree in trees]
    # A `torana.toml` that appears, changes or goes may forbid what was built.
    folders = candidates(request.local_dirs.get("context", Path.cwd()))
    watches += [memo.Watch(str(folder), (PROJECT_FILENAME,)) for folder in folders]
    for export in request.exports:
        is_elsewhere = export.dest is None and (export.type != "image" or pushes(export))
        if export.dest == "-" or is_elsewhere:
            return  # what others have cannot be looked at
        if export.dest is not None:
            watches.append(memo.Watch(str(Path(export.dest).absolute()), is_output=True))
    for written in (options["metadata_file"], options["iidfile"]):
        if written is not None:
            watches.append(memo.Watch(str(Path(written).absolute()), is_output=True))
    answer = memo.Answer(stdout.encode(), (recording.as_cached(mode) + stderr).encode())
    memo.remember(sys.argv[1:], watches, begun, answer)
