"""What answers a frontend's requests."""
