"""`Address`: where a BuildKit daemon is to be reached. Pure: nothing is opened here.

| form | reaches |
|---|---|
| `unix:///run/buildkit/buildkitd.sock` | a socket of this machine |
| `tcp://host:1234` | a port; with TLS unless it is told to be plain |
| `ssh://user@host[:port][/path/to.sock]` | a daemon on another machine, through its `dial-stdio` |
| `docker-container://NAME`, `podman-...`, `nerdctl-...` | one in a container |
| `kube-pod://POD?namespace=NS&container=C&context=X` | one in a pod |
| `docker://`, `docker:///path/to.sock`, `docker://host:port` | the BuildKit of a Docker daemon |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from torana.core.errors import UsageError
from torana.core.records import dataclass

_DOCKER_SOCKET: Final = "/var/run/docker.sock"
_DIAL_ANY: Final = (
    'if command -v buildctl >/dev/null; then exec buildctl "$@" dial-stdio; '
    'else exec torana "$@" dial-stdio; fi'
)
SCHEMES: Final = (
    "unix",
    "tcp",
    "ssh",
    "docker-container",
    "podman-container",
    "nerdctl-container",
    "kube-pod",
    "docker",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Files in PEM; without any of them a TCP connection is plain."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @property
    def is_wanted(self) -> bool:
        return bool(self.authority or self.certificate or self.server_name)


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """A unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class TCPAddress:
    """A host and port; `tls` None is a plain connection."""

    host: str
    port: int
    tls: TLS | None = None


@dataclass(frozen=True, slots=True)
class CommandAddress:
    """A program whose standard input and output are the connection."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DockerAddress:
    """A Docker daemon: its API is asked to turn the connection into a BuildKit one."""

    at: SocketAddress | TCPAddress


Address = SocketAddress | TCPAddress | CommandAddress | DockerAddress


def parse_address(text: str, *, tls: TLS | None = None, docker_host: str = "") -> Address:
    """Read an address; `docker_host` is what a plain `docker://` means (`DOCKER_HOST`).

    Raises:
        UsageError: it is malformed, or of an unknown kind.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"`{name}://`" for name in SCHEMES)
        raise UsageError(f"invalid address: `{text}`", hint=f"addresses begin with {known}")
    try:
        parts = urlsplit(text)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        port = parts.port
    except ValueError as err:
        raise UsageError(f"invalid address: {err}: `{text}`") from None
    host = parts.hostname or ""
    if host.startswith("-") or (parts.username or "").startswith("-"):
        raise UsageError(f"invalid address: a name that looks like an option: `{text}`")
    match scheme:
        case "unix":
            if not rest.startswith("/"):
                raise UsageError(f"invalid address: no absolute path: `{text}`")
            return SocketAddress(unquote(parts.path))
        case "tcp":
            return _tcp(text, host, port, tls)
        case "ssh":
            return _ssh(text, parts.username, host, port, unquote(parts.path))
        case "docker":
            return _docker(text, docker_host, host, port, unquote(parts.path), tls)
        case "kube-pod":
            return _pod(text, parts.netloc, query)
        case _:
            return _container(text, scheme.partition("-")[0], parts.netloc, query)


def _tcp(text: str, host: str, port: int | None, tls: TLS | None) -> TCPAddress:
    if not host or port is None:
        raise UsageError(
            f"invalid address: host and port are needed: `{text}`", hint="as in tcp://host:1234"
        )
    return TCPAddress(host, port, tls if tls is not None and tls.is_wanted else None)


def _ssh(text: str, user: str | None, host: str, port: int | None, path: str) -> CommandAddress:
    if not host:
        raise UsageError(f"invalid address: no host: `{text}`")
    argv = ["ssh", "-T", *(["-p", str(port)] if port else [])]
    argv += ["--", f"{user}@{host}" if user else host]
    options = ["--addr", f"unix://{path}"] if path.strip("/") else []
    # A shell at the other end takes the words apart again.
    return CommandAddress((*argv, "sh", "-c", _quoted(_DIAL_ANY), "sh", *map(_quoted, options)))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _container(text: str, program: str, name: str, query: Mapping[str, str]) -> CommandAddress:
    if not name or name.startswith("-"):
        raise UsageError(f"invalid address: no container: `{text}`")
    options: Sequence[str] = ()
    if "context" in query:
        options = (f"--{'connection' if program == 'podman' else 'context'}={query['context']}",)
    if "namespace" in query:
        options = (*options, f"--namespace={query['namespace']}")
    return CommandAddress((program, *options, "exec", "-i", name, "sh", "-c", _DIAL_ANY, "sh"))


def _pod(text: str, pod: str, query: Mapping[str, str]) -> CommandAddress:
    if not pod or pod.startswith("-"):
        raise UsageError(f"invalid address: no pod: `{text}`")
    argv = ["kubectl"]
    argv += [f"--{key}={query[key]}" for key in ("context", "namespace") if key in query]
    argv += ["exec", "-i", pod]
    argv += [f"--container={query['container']}"] if "container" in query else []
    return CommandAddress((*argv, "--", "sh", "-c", _DIAL_ANY, "sh"))


def _docker(
    text: str, docker_host: str, host: str, port: int | None, path: str, tls: TLS | None
) -> DockerAddress:
    if host:
        return DockerAddress(_tcp(text, host, port, tls))
    if path.strip("/"):
        return DockerAddress(SocketAddress(path))
    if not docker_host:
        return DockerAddress(SocketAddress(_DOCKER_SOCKET))
    if docker_host.startswith("docker://"):
        raise UsageError(f"invalid DOCKER_HOST: `{docker_host}`")
    found = parse_address(docker_host, tls=tls)
    if isinstance(found, SocketAddress | TCPAddress):
        return DockerAddress(found)
    raise UsageError(
        f"a Docker daemon cannot be reached this way: `{docker_host}`",
        hint="DOCKER_HOST must be unix:// or tcp://",
    )
