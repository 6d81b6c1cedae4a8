"""OCI value types: digests, descriptors, platforms, image configs and manifests."""
