"""Rows on their way to the deployment and back, each in its place: bounded, shared, retried, in order."""
