"""The solver: vertices, edges, scheduler, cache keys, jobs and progress events."""
