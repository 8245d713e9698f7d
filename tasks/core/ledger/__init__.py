"""The ledger: durable record of the replies that are paid for, and the ways to reuse one without a request.

Nothing in here sends a request.
"""
