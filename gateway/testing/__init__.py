"""Conformance suites for what third parties may implement around the gateway."""
