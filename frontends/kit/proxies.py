"""Proxy settings among build arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torana.core.llb.ops import ProxyEnv

PROXIES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def proxy_env(build_args: Mapping[str, str]) -> ProxyEnv | None:
    """Give the proxy settings among the build arguments, in any case; None without any."""
    found = {
        name.lower(): build_args[name] for name in sorted(build_args) if name.lower() in PROXIES
    }
    return ProxyEnv(**found) if found else None
