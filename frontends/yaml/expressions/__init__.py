"""`${{ }}`: a small language without side effects, loops or conversions; all of it is bounded."""
