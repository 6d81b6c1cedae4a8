"""The Mockerfile frontend."""
