"""The YAML frontend."""
