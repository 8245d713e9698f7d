"""One run at a time on a destination: the lease and its files."""
