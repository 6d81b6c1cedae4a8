"""`--secret`, `--ssh` and `--source-policy-file`: what a build may read."""

from __future__ import annotations

import os
from pathlib import Path

from torana.cli.exports import parse_fields
from torana.core.errors import ToranaError, UsageError
from torana.core.llb.policy import SourcePolicy
from torana.gateway.engines.engine import AgentSource, SecretSource
from torana.plugins.manager import PluginManager


def parse_secret(text: str, plugins: PluginManager) -> SecretSource:
    """Read `id=ID[,src=FILE|,env=NAME|,type=TYPE,...]`.

    An id alone is a variable of that name, else a file.

    Raises:
        UserError: malformed, or there is no such file, variable or type.
    """
    fields = parse_fields(text, "--secret")
    kind = fields.pop("type", "")
    id_ = fields.pop("id", None)
    if id_ is None:
        raise UsageError(f"invalid --secret: must be id=ID[,src=FILE|,env=NAME]: `{text}`")
    if "source" in fields:
        fields["src"] = fields.pop("source")
    if kind in ("", "file", "env"):
        if set(fields) - {"src", "env"} or len(fields) > 1:
            raise UsageError(f"invalid --secret: must be id=ID[,src=FILE|,env=NAME]: `{text}`")
        if not kind:
            is_variable = "env" in fields or (not fields and id_ in os.environ)
            kind = "env" if is_variable else "file"
        elif kind == "env" and "src" in fields:
            fields = {"env": fields["src"]}
    plugins.secret_reader(kind).check(id_, fields)
    return SecretSource(id=id_, type=kind, fields=fields)


def parse_agent(text: str) -> AgentSource:
    """Read `ID[=SOCKET|KEY[,KEY...]]`; an id alone is the agent of `SSH_AUTH_SOCK`.

    Raises:
        UsageError: there is no such socket or key, or sockets and keys are mixed.
    """
    id_, equals, places = text.partition("=")
    if not equals:
        socket = os.environ.get("SSH_AUTH_SOCK", "")
        if not socket:
            raise UsageError(
                f"--ssh {id_}: there is no agent: SSH_AUTH_SOCK is not set",
                hint=f"start ssh-agent, or name a socket or key: `--ssh {id_}=FILE`",
            )
        places = socket
    paths = [Path(place).expanduser() for place in places.split(",") if place]
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None or not paths:
        raise UsageError(f"--ssh {id_}: no such file: `{missing or places}`")
    sockets = [path for path in paths if path.is_socket()]
    if sockets and len(paths) > 1:
        raise UsageError(f"--ssh {id_}: one socket or some keys, not both: `{places}`")
    return AgentSource(
        id=id_ or "default",
        socket=sockets[0] if sockets else None,
        keys=() if sockets else tuple(paths),
    )


def read_policy(file: Path | None) -> SourcePolicy | None:
    """Read `--source-policy-file`.

    Raises:
        UsageError: it cannot be read, or says what cannot be understood.
    """
    if file is None or file == Path(""):
        return None
    from torana.core.llb.policyfile import parse_policy

    try:
        return parse_policy(file.read_bytes(), str(file))
    except OSError as err:
        text = (err.strerror or str(err)).lower()
        raise UsageError(f"--source-policy-file: {text}: `{file}`") from err
    except ToranaError as err:
        raise UsageError(f"--source-policy-file: {err}") from None
