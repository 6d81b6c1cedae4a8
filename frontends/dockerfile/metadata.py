"""Instructions that change the image config only: ENV, LABEL, CMD, EXPOSE and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from torana.core.errors import BuildFileError
from torana.frontends.dockerfile import lint
from torana.frontends.dockerfile.arguments import SBOM_ARGS
from torana.frontends.dockerfile.checks import check_signal, looks_secret
from torana.frontends.dockerfile.evaluation import Evaluation
from torana.frontends.dockerfile.instructions import (
    Arg,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    StopSignal,
    User,
    Volume,
)
from torana.frontends.dockerfile.ports import parse_ports
from torana.frontends.dockerfile.quoting import go_duration, go_quote


def env(ev: Evaluation, instruction: Env) -> None:
    pairs = ev.pairs(instruction.pairs)
    _report_legacy(ev, instruction)
    for name, value in pairs:
        if looks_secret(name):
            _report_secret(ev, "ENV", name)
        ev.stage.environment.set(name, value)
        ev.image.set_env(name, value)
    ev.history("ENV" + "".join(f" {name}={value}" for name, value in pairs))


def label(ev: Evaluation, instruction: Label) -> None:
    pairs = ev.pairs(instruction.pairs)
    _report_legacy(ev, instruction)
    labels = dict(ev.image.config.get("Labels") or {})
    labels.update(pairs)
    ev.image.config["Labels"] = labels
    ev.history("LABEL" + "".join(f" {name}={value}" for name, value in pairs))


def arg(ev: Evaluation, instruction: Arg) -> None:
    shown = []
    for declared in instruction.args:
        name = declared.name
        if looks_secret(name):
            _report_secret(ev, "ARG", name)
        value = ev.argument(name, declared.value)
        shown.append(name if value is None else f"{name}={value}")
        ev.stage.args.declare(name, value)
        if name in SBOM_ARGS:
            ev.note_scan(name, value)
        elif value is not None:
            ev.stage.environment.set(name, value)
    ev.history(f"ARG {' '.join(shown)}")


def cmd(ev: Evaluation, instruction: Cmd) -> None:
    _report_multiple(ev, instruction)
    args = _command(ev, instruction)
    ev.image.config["Cmd"] = args
    ev.image.config["ArgsEscaped"] = True
    ev.has_cmd = True
    ev.history(f"CMD {_quoted_list(args)}")


def entrypoint(ev: Evaluation, instruction: Entrypoint) -> None:
    _report_multiple(ev, instruction)
    args = _command(ev, instruction)
    ev.image.config["Entrypoint"] = args
    if not ev.has_cmd:
        ev.image.config["Cmd"] = None
    ev.history(f"ENTRYPOINT {_quoted_list(args)}")


def _command(ev: Evaluation, instruction: Cmd | Entrypoint) -> list[str]:
    if not instruction.is_shell:
        return list(instruction.args)
    if not ev.image.config.get("Shell"):
        ev.report(
            lint.JSON_ARGS_RECOMMENDED,
            f"JSON arguments recommended for {instruction.word} to prevent unintended behavior "
            "related to OS signals",
        )
    return [*ev.shell, instruction.args[0] if instruction.args else ""]


def healthcheck(ev: Evaluation, instruction: Healthcheck) -> None:
    _report_multiple(ev, instruction)
    durations = {
        "Interval": instruction.interval_ns,
        "Timeout": instruction.timeout_ns,
        "StartPeriod": instruction.start_period_ns,
        "StartInterval": instruction.start_interval_ns,
    }
    ev.image.config["Healthcheck"] = {
        "Test": list(instruction.test),
        **durations,
        "Retries": instruction.retries,
    }
    shown = " ".join(f"{name}:{go_duration(value)}" for name, value in durations.items())
    test = " ".join(instruction.test)
    ev.history(f"HEALTHCHECK {{Test:[{test}] {shown} Retries:{instruction.retries}}}")


def expose(ev: Evaluation, instruction: Expose) -> None:
    ports: list[str] = []
    exposed = dict(ev.image.config.get("ExposedPorts") or {})
    words = [word for text in sorted(instruction.ports) for word in ev.expand_words(text)]
    for word in words:
        found = parse_ports(word)
        if found.has_odd_case:
            ev.report(
                lint.EXPOSE_PROTO_CASING,
                f"Defined protocol '{word}' in EXPOSE instruction should be lowercase",
            )
        if found.has_host_part:
            ev.report(
                lint.EXPOSE_INVALID_FORMAT,
                "EXPOSE instruction should not define an IP address or host-port mapping, "
                f"found '{word}'",
            )
        ports += found.ports()
    ev.image.config["ExposedPorts"] = exposed | {port: {} for port in ports}
    ev.history(f"EXPOSE [{' '.join(ports)}]")


def volume(ev: Evaluation, instruction: Volume) -> None:
    paths = [ev.expand(path) for path in instruction.paths]
    if not all(paths):
        raise BuildFileError("VOLUME specified can not be an empty string")
    volumes = dict(ev.image.config.get("Volumes") or {})
    ev.image.config["Volumes"] = volumes | {path: {} for path in paths}
    ev.history(f"VOLUME [{' '.join(paths)}]")


def user(ev: Evaluation, instruction: User) -> None:
    name = ev.expand(instruction.user)
    ev.stage.user = name
    ev.image.config["User"] = name
    ev.history(f"USER {name}")


def shell(ev: Evaluation, instruction: Shell) -> None:
    ev.image.config["Shell"] = list(instruction.args)
    ev.history(f"SHELL [{' '.join(instruction.args)}]")


def stop_signal(ev: Evaluation, instruction: StopSignal) -> None:
    signal = ev.expand(instruction.signal)
    check_signal(signal)
    ev.image.config["StopSignal"] = signal
    ev.history(f"STOPSIGNAL {signal}")


def maintainer(ev: Evaluation, instruction: Maintainer) -> None:
    ev.image.author = instruction.name
    ev.history(f"MAINTAINER {instruction.name}")


def onbuild(ev: Evaluation, instruction: Onbuild) -> None:
    triggers = ev.image.config.get("OnBuild") or []
    ev.image.config["OnBuild"] = [*triggers, instruction.expression]


def _report_legacy(ev: Evaluation, instruction: Env | Label) -> None:
    word = instruction.word
    for pair in instruction.pairs:
        if pair.is_legacy:
            ev.report(
                lint.LEGACY_KEY_VALUE_FORMAT,
                f'"{word} key=value" should be used instead of legacy "{word} key value" format',
            )


def _report_secret(ev: Evaluation, word: str, name: str) -> None:
    ev.report(
        lint.SECRETS_USED_IN_ARG_OR_ENV,
        f'Do not use ARG or ENV instructions for sensitive data ({word} "{name}")',
    )


def _report_multiple(ev: Evaluation, instruction: Cmd | Entrypoint | Healthcheck) -> None:
    """Report the earlier one, whose place is shown."""
    kind = type(instruction)
    if (earlier := ev.last_of_kind.get(kind)) is not None:
        ev.report(
            lint.MULTIPLE_INSTRUCTIONS_DISALLOWED,
            f"Multiple {instruction.word} instructions should not be used in the same stage "
            "because only the last one will be used",
            ranges=earlier.ranges,
        )
    ev.last_of_kind[kind] = ev.step


def _quoted_list(args: Sequence[str]) -> str:
    return f"[{' '.join(go_quote(arg) for arg in args)}]"


HANDLERS: Final[dict[type[Any], Callable[[Evaluation, Any], None]]] = {
    Arg: arg,
    Cmd: cmd,
    Entrypoint: entrypoint,
    Env: env,
    Expose: expose,
    Healthcheck: healthcheck,
    Label: label,
    Maintainer: maintainer,
    Onbuild: onbuild,
    Shell: shell,
    StopSignal: stop_signal,
    User: user,
    Volume: volume,
}
