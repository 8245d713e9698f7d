"""The footer of a Parquet file: parsed, cut down to what is read, and spliced with new columns.

Works on bytes; rows and pages are in ``files``.
"""
