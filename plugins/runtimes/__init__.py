"""Built-in container runtimes."""
