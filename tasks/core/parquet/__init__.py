"""The rows of Parquet files: some columns read in slices, new columns written behind a source.

Requests and the ledger are not used here.
"""
