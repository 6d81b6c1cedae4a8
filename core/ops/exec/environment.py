"""The environment of a process, in BuildKit's order. Pure.

Spec: reference of exec, section 12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torana.core.llb.ops import ProxyEnv
from torana.core.oci.image import DEFAULT_PATH


def compose_environment(
    env: Sequence[str],
    proxy: ProxyEnv | None,
    secrets: Iterable[tuple[str, str]] = (),
    *,
    defaults: Mapping[str, str],
) -> tuple[str, ...]:
    """Give `KEY=value` entries; where a key comes twice the last one counts, as in BuildKit.

    `secrets` are names and values. `defaults` are for steps that do not set them: `HOME` is among
    them, since runtimes would each find another one.
    """
    entries = [*env, *_proxy_entries(proxy)]
    if not any(entry.partition("=")[0] == "PATH" for entry in entries):
        entries.append(f"PATH={DEFAULT_PATH}")
    entries += [f"{name}={value}" for name, value in secrets]
    # Runtimes differ in which one of two they hand on, so only one is left.
    latest = {entry.partition("=")[0]: entry for entry in entries}
    for name, value in defaults.items():
        latest.setdefault(name, f"{name}={value}")
    return tuple(latest.values())


def _proxy_entries(proxy: ProxyEnv | None) -> list[str]:
    if proxy is None:
        return []
    values = (
        ("HTTP_PROXY", proxy.http_proxy),
        ("HTTPS_PROXY", proxy.https_proxy),
        ("FTP_PROXY", proxy.ftp_proxy),
        ("NO_PROXY", proxy.no_proxy),
        ("ALL_PROXY", proxy.all_proxy),
    )
    return [
        f"{spelling}={value}"
        for name, value in values
        if value
        for spelling in (name, name.lower())
    ]
