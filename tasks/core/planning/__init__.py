"""Planning a run: the status of every partition, the problems found, and the cost.

Sends no request.
"""
