"""Requests rows: sliced, rendered, looked up in the ledger, sent with retries, and returned in order."""
