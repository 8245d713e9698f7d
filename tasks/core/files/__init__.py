"""Parquet files: what a footer tells, and how to write the same file again with the summary columns added.

Nothing in here knows of requests or of what is paid for.
"""
