"""Why a step ran or was cached: records of builds, and their comparison. See docs/design."""
