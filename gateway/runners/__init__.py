"""How a frontend is run: as a child process, or out of an image."""
