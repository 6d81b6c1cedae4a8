"""BuildKit's messages and services, and errors to and from their status."""
