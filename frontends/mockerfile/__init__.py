"""The Mockerfile frontend: images as a base, packages and downloads."""

from __future__ import annotations

from torana.frontends.mockerfile.frontend import MockerfileFrontend

__all__ = ["MockerfileFrontend"]
