"""Conformance suites that implementations of core interfaces subclass."""
