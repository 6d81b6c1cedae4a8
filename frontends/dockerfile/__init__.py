"""The Dockerfile frontend: the original's language, the original's LLB."""

from __future__ import annotations

from torana.frontends.dockerfile.frontend import DockerfileFrontend

__all__ = ["DockerfileFrontend"]
