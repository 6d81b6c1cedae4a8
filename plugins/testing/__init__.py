"""Conformance suites for plugins: subclass one in your tests, with the fixtures it asks for.

They need pytest, which is no dependency of the package: import them from tests only. Snapshotters
and runtimes have theirs in `torana.core.testing`.
"""
