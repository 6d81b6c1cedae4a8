"""The YAML frontend: `build.yaml` files to LLB."""

from __future__ import annotations

from torana.frontends.yaml.frontend import YamlFrontend

__all__ = ["YamlFrontend"]
