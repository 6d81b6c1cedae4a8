"""Refs and leases, stored cache keys and results, content checksums."""
