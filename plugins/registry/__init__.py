"""Registries: a client of the OCI distribution protocol. Its calls block, in threads of its own."""
