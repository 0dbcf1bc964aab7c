"""studies/beyond."""
