"""The rows of Parquet files: some columns read in slices, new columns written behind a source.

Nothing in here knows of requests or of what is paid for.
"""
