"""What has been paid for: the ledger, the ways a row is answered without a request, and who may write there.

Nothing in here sends a request.
"""
