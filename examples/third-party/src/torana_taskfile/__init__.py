"""Builds Taskfiles: recipes that need each other, each a target."""

from torana_taskfile.frontend import TaskfileFrontend

__all__ = ["TaskfileFrontend"]
