"""Parquet files: reads columns in slices, and writes new columns to append to a source file."""
