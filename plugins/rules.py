"""`PluginRules`: which installed plugins may be loaded at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from torana.core.records import dataclass

ALLOWED_VARIABLE: Final = "TORANA_PLUGINS"
DISABLED_VARIABLE: Final = "TORANA_DISABLED_PLUGINS"
TRUSTED_VARIABLE: Final = "TORANA_TRUSTED_PLUGINS"
_EVERY: Final = "*"
LOCAL: Final = "local"  # kinds of frontends that nobody installed
PYPI: Final = "pypi"
CONSENTS: Final = (LOCAL, PYPI)
CONSENT_VARIABLE: Final = "TORANA_ALLOW_FRONTENDS"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRules:
    """Names of plugins: of their entry points, or of their distributions.

    `allowed` None allows all. Built-in plugins are always allowed, but can be disabled. The
    frontends that are `trusted` run in this process, others of third parties in a confined one.
    """

    allowed: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> PluginRules:
        """Read `TORANA_PLUGINS` and its like: names with commas between; empty allows none."""
        allowed = environment.get(ALLOWED_VARIABLE)
        return cls(
            allowed=None if allowed is None else _names(allowed.split(",")),
            disabled=_names(environment.get(DISABLED_VARIABLE, "").split(",")),
            trusted=_names(environment.get(TRUSTED_VARIABLE, "").split(",")),
        )

    def with_more(
        self, *, disabled: Iterable[str] = (), trusted: Iterable[str] = ()
    ) -> PluginRules:
        """Add what a command line says."""
        return PluginRules(
            allowed=self.allowed,
            disabled=self.disabled | _names(disabled),
            trusted=self.trusted | _names(trusted),
        )

    def environment(self) -> dict[str, str]:
        """Give the variables that say the same to another process."""
        found = {
            DISABLED_VARIABLE: ",".join(sorted(self.disabled)),
            TRUSTED_VARIABLE: ",".join(sorted(self.trusted)),
        }
        if self.allowed is not None:
            found[ALLOWED_VARIABLE] = ",".join(sorted(self.allowed))
        return found

    def refusal(self, name: str, distribution: str, *, is_builtin: bool = False) -> str:
        """Say why a plugin may not be loaded; empty if it may."""
        names = _names((name, distribution, f"{distribution}:{name}"))
        if is_builtin:
            names -= _names((distribution,))
        if names & self.disabled:
            return "disabled by --disable-plugin"
        if self.allowed is None or is_builtin or _EVERY in self.allowed or names & self.allowed:
            return ""
        return f"not named by {ALLOWED_VARIABLE}"

    def trusts(self, name: str, distribution: str) -> bool:
        names = _names((name, distribution, f"{distribution}:{name}"))
        return _EVERY in self.trusted or bool(names & self.trusted)


def normal(name: str) -> str:
    """Give the form in which names of distributions are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _names(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(normal(text.strip()) for text in texts if text.strip())
