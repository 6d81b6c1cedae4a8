"""What a client offers to the engine that builds for it: files, secrets, agents; both ends."""
