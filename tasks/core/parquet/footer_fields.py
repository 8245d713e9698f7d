"""Ids of the fields in Parquet's footer, from parquet.thrift of https://github.com/apache/parquet-format."""

SCHEMA, ROWS, ROW_GROUPS, ENTRIES, COLUMN_ORDERS, ENCRYPTION = 2, 3, 4, 5, 7, 8
"""Fields of FileMetaData."""
TYPE, NAME, CHILDREN, FIELD_ID = 1, 4, 5, 9
"""Fields of SchemaElement."""
CHUNKS, GROUP_BYTES, GROUP_ROWS, GROUP_COMPRESSED_BYTES = 1, 2, 3, 6
"""Fields of RowGroup."""
FILE_PATH, CHUNK_METADATA = 1, 3
"""Fields of ColumnChunk."""
ENCODINGS, CODEC, COMPRESSED_BYTES = 2, 4, 7
PAGE_OFFSETS = 9, 10, 11
"""Fields of ColumnMetaData."""
KEY, VALUE = 1, 2
"""Fields of KeyValue."""
