"""Ensures that one run at a time works on a destination: the lease and its files."""
