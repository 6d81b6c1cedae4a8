"""The command line and its progress displays."""
