"""`toranad`: builds as a service, on BuildKit's Control API."""
