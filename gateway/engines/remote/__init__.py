"""Torana as a client of `toranad` and of stock BuildKit, wherever it runs."""
