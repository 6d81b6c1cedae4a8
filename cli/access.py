"""`--secret` and `--ssh`: what a build may read of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from torana.cli.exports import parse_fields
from torana.core.errors import UsageError
from torana.gateway.engines.engine import AgentSource, SecretSource


def parse_secret(text: str) -> SecretSource:
    """Read `id=ID[,src=FILE|,env=NAME]`; an id alone is a variable of that name, else a file.

    Raises:
        UsageError: malformed, or there is no such file or variable.
    """
    fields = parse_fields(text, "--secret")
    kind = fields.pop("type", "")
    source = fields.pop("src", fields.pop("source", None))
    env = fields.pop("env", None)
    id_ = fields.pop("id", None)
    if id_ is None or fields or kind not in ("", "file", "env"):
        raise UsageError(f"invalid --secret: must be id=ID[,src=FILE|,env=NAME]: `{text}`")
    if kind == "env" and env is None:
        source, env = None, source or id_
    if source is None and env is None:
        env = id_ if id_ in os.environ and kind != "file" else None
        source = None if env else id_
    if source is not None and not Path(source).is_file():
        raise UsageError(f"--secret {id_}: no such file: `{source}`")
    if env is not None and env not in os.environ:
        raise UsageError(f"--secret {id_}: no such environment variable: `{env}`")
    return SecretSource(id=id_, file=None if source is None else Path(source), env=env)


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
