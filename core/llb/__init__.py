"""LLB, BuildKit's build language: ops, the `State` builder, definitions and canonical bytes."""
