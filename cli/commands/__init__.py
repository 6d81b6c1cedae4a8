"""Commands of `torana`, one module each."""
