"""`toranad`: the daemon's command line, with buildkitd's flags.

A flag overrides the configuration file only if it is given.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from torana import __version__
from torana.cli import failures
from torana.core.errors import UsageError

if TYPE_CHECKING:
    from torana.gateway.daemon.config import Config, WorkerConfig

_ENTITLEMENTS: Final = ("network.host", "security.insecure", "device")
_NETWORKS: Final = ("auto", "host", "none", "pasta", "slirp4netns", "cni", "bridge")
_MB: Final = 1_000_000
# Flags of buildkitd that change nothing here; taken, so that its command lines work.
_UNUSED_VALUES: Final = (
    "--otel-socket-path",
    "--containerd-worker",
    "--containerd-worker-addr",
    "--containerd-worker-labels",
    "--containerd-worker-net",
    "--containerd-cni-config-path",
    "--containerd-cni-binary-dir",
    "--containerd-cni-pool-size",
    "--containerd-worker-snapshotter",
    "--containerd-worker-apparmor-profile",
    "--containerd-max-parallelism",
    "--containerd-worker-gc-keepstorage",
    "--oci-worker",
    "--oci-worker-proxy-snapshotter-path",
    "--oci-cni-pool-size",
)
_UNUSED_SWITCHES: Final = (
    "--proxy-network",
    "--save-cache-debug",
    "--containerd-worker-selinux",
    "--containerd-worker-rootless",
    "--containerd-worker-gc",
    "--oci-worker-no-process-sandbox",
    "--oci-worker-rootless",
    "--rootless",
)


def _unused(command: Callable[..., None]) -> Callable[..., None]:
    for name in _UNUSED_VALUES:
        command = click.option(name, multiple=True, hidden=True)(command)
    for name in _UNUSED_SWITCHES:
        command = _switch(name, hidden=True)(command)
    return command


def _switch(name: str, **attributes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a boolean option as Go has it: `--name`, `--name=false`; None if it is not given."""
    return click.option(
        name, type=bool, is_flag=False, flag_value="true", default=None, **attributes
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), help="Configuration file.")
@_switch("--debug", help="Show more in the log, and tracebacks.")
@click.option("--root", metavar="FOLDER", help="Where everything is kept.")
@click.option("--addr", multiple=True, metavar="ADDRESS", help="unix://, tcp:// or fd://.")
@click.option("--group", metavar="NAME|GID", help="Group that may use the unix sockets.")
@click.option("--tlscert", metavar="FILE", help="The daemon's certificate.")
@click.option("--tlskey", metavar="FILE", help="Key of the certificate.")
@click.option("--tlscacert", metavar="FILE", help="CA that clients' certificates must be of.")
@_switch("--insecure-tcp", help="Let anybody who reaches a TCP address run builds.")
@click.option("--debugaddr", envvar="BUILDKITD_DEBUGADDR", metavar="HOST:PORT", help="Metrics.")
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option(
    "--log-level",
    envvar="BUILDKITD_LOG_LEVEL",
    type=click.Choice(["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]),
)
@click.option("--allow-insecure-entitlement", "entitlements", multiple=True, metavar="NAME")
@click.option("--oci-worker-labels", "labels", multiple=True, metavar="KEY=VALUE")
@click.option("--oci-worker-platform", "platforms", multiple=True, metavar="PLATFORM")
@click.option("--oci-worker-snapshotter", "snapshotter", metavar="NAME", help="[auto]")
@click.option("--oci-worker-net", "network", type=click.Choice(_NETWORKS))
@click.option("--oci-cni-config-path", "cni_config", metavar="FILE")
@click.option("--oci-cni-binary-dir", "cni_folder", metavar="FOLDER")
@click.option("--oci-worker-binary", "runtime", metavar="NAME", help="Container runtime.")
@click.option("--oci-worker-apparmor-profile", "apparmor_profile", metavar="NAME")
@_switch("--oci-worker-selinux", help="Give steps SELinux labels.")
@click.option("--cdi-spec-dir", "device_folders", multiple=True, metavar="FOLDER")
@click.option("--cdi-disabled", "has_no_devices", is_flag=True, help="Offer no CDI devices.")
@click.option("--oci-max-parallelism", "max_parallelism", type=click.IntRange(0))
@_switch("--oci-worker-gc", help="Collect garbage.  [true]")
@click.option("--oci-worker-gc-keepstorage", "keep", metavar="RESERVED[,FREE[,MAXIMUM]] (MB)")
@_unused
@click.version_option(__version__, prog_name="toranad", message="%(prog)s %(version)s")
def toranad(**flags: Any) -> None:
    """Serve builds to buildctl, docker buildx and torana."""
    from torana.gateway.daemon.config import NO_PROXY_NETWORK, read_config
    from torana.gateway.daemon.serve import serve

    if flags["proxy_network"]:
        raise UsageError(f"--proxy-network: {NO_PROXY_NETWORK}")
    config = with_flags(read_config(flags["file"]), flags)
    serve(config)


def with_flags(config: Config, flags: Mapping[str, Any]) -> Config:
    """Lay flags over a configuration; None and empty mean that one was not given.

    Raises:
        UsageError: a flag's value is wrong.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    unused = tuple(
        name
        for name in (*_UNUSED_VALUES, *_UNUSED_SWITCHES)
        if name.removeprefix("--").replace("-", "_") in given
    )
    config = replace(config, unused=(*config.unused, *unused))
    if "root" in given:
        config = replace(config, root=Path(given["root"]))
    if "addr" in given:
        config = replace(config, addresses=tuple(given["addr"]))
    if "group" in given:
        config = replace(config, gid=_gid(given["group"]))
    if "debugaddr" in given:
        config = replace(config, debug_address=given["debugaddr"])
    if "insecure_tcp" in given:
        config = replace(config, may_be_open=given["insecure_tcp"])
    if given.get("debug"):
        config = replace(config, log_level="debug")
    elif "log_level" in given:
        config = replace(config, log_level=given["log_level"])
    if "log_format" in given:
        config = replace(config, log_format=given["log_format"])
    if "entitlements" in given:
        config = replace(config, entitlements=_entitlements(given["entitlements"]))
    config = _with_tls(_with_devices(config, given), given)
    return replace(config, worker=_worker(config.worker, given))


def _with_devices(config: Config, given: Mapping[str, Any]) -> Config:
    from torana.core.ops.exec.cdi import Devices

    if given.get("has_no_devices"):
        return replace(config, devices=Devices())
    if "device_folders" not in given:
        return config
    folders = tuple(Path(each) for group in given["device_folders"] for each in group.split(","))
    found = config.devices or Devices()
    return replace(config, devices=replace(found, folders=folders))


def _with_tls(config: Config, given: Mapping[str, Any]) -> Config:
    from torana.gateway.daemon.config import TLSConfig

    parts = {key: given.get(f"tls{name}") for key, name in _TLS_FILES}
    if not any(parts.values()):
        return config
    before = config.tls
    cert = parts["cert"] or (before and before.cert)
    key = parts["key"] or (before and before.key)
    ca = parts["ca"] or (before and before.ca)
    if not cert or not key:
        raise UsageError("you must specify key and cert file if one is specified")
    return replace(
        config, tls=TLSConfig(cert=Path(cert), key=Path(key), ca=Path(ca) if ca else None)
    )


_TLS_FILES: Final = (("cert", "cert"), ("key", "key"), ("ca", "cacert"))


def _worker(worker: WorkerConfig, given: Mapping[str, Any]) -> WorkerConfig:
    if "labels" in given:
        worker = replace(worker, labels={**worker.labels, **_labels(given["labels"])})
    if "platforms" in given:
        listed = [each for text in given["platforms"] for each in text.split(",")]
        worker = replace(worker, platforms=tuple(listed))
    for flag in ("snapshotter", "runtime", "network", "max_parallelism", "apparmor_profile"):
        if flag in given:
            worker = replace(worker, **{flag: given[flag]})
    if "cni_config" in given:
        worker = replace(worker, cni=replace(worker.cni, config=Path(given["cni_config"])))
    if "cni_folder" in given:
        worker = replace(worker, cni=replace(worker.cni, folders=(Path(given["cni_folder"]),)))
    if "oci_worker_selinux" in given:
        worker = replace(worker, has_selinux=given["oci_worker_selinux"])
    if "oci_worker_gc" in given:
        worker = replace(worker, has_gc=given["oci_worker_gc"])
    if "keep" in given:
        worker = _with_keep(worker, given["keep"])
    return worker


def _with_keep(worker: WorkerConfig, text: str) -> WorkerConfig:
    from torana.core.quantities import Size, parse_size

    sizes = []
    for part in text.split(","):
        size = parse_size(part)
        is_plain = part.strip().isdigit()  # buildkitd counts plain numbers in MB here
        sizes.append(Size(size.size_bytes * _MB) if is_plain else size)
    if len(sizes) > 3:
        raise UsageError(f"invalid --oci-worker-gc-keepstorage: `{text}`")
    reserved, min_free, max_used = [*sizes, None, None][:3]
    return replace(worker, reserved=reserved, min_free=min_free, max_used=max_used)


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in (each for group in texts for each in group.split(",")):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid --oci-worker-labels: must be KEY=VALUE: `{text}`")
        labels[key] = value
    return labels


def _entitlements(names: Sequence[str]) -> frozenset[str]:
    found = frozenset(name for group in names for name in group.split(","))
    for name in sorted(found - set(_ENTITLEMENTS)):
        known = ", ".join(f"`{each}`" for each in _ENTITLEMENTS)
        raise UsageError(f"invalid entitlement : {name}", hint=f"known: {known}")
    return found


def _gid(name: str) -> int:
    import grp

    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"no such group: `{name}`") from None


def main() -> None:
    """Run `toranad`; exit codes are those of `torana`."""
    code = run(sys.argv[1:])
    gc.freeze()  # as `torana` ends: no last search for cycles, 85 ms of 120 after a signal
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run `argv` and give the exit code."""
    try:
        toranad.main(argv, prog_name="toranad", standalone_mode=False)
        return 0
    except click.ClickException as err:
        err.show(sys.stderr)
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except Exception as err:
        if toranad.make_context("toranad", argv, resilient_parsing=True).params["debug"]:
            raise
        click.echo(failures.told(err), err=True)
        return 2 if isinstance(err, UsageError) else 1
