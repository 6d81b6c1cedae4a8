"""Build caches that move between machines: BuildKit's format, export to it, import from it."""
