"""Running steps: keys, plans of mounts, and the op that runs a container."""
