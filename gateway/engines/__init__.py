"""Engines: whatever takes a build request and gives a result."""
