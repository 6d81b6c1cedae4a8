"""Snapshots: layered trees of files, and the differences between them."""
