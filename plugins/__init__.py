"""Plugin hooks, their manager, and the built-in plugins."""
