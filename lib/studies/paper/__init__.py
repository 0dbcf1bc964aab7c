"""studies/paper."""
