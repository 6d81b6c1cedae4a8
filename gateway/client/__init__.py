"""What a frontend sees: `Client`, `Result`, `Reference`."""
