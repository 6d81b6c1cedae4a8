"""Everything between a person, a frontend and an engine."""
