"""Schemas that other programs keep in a footer beside Parquet's own, told of the columns that are added.

Spark and Avro's readers believe these and not the file: without the added columns in them, Spark does not
show them, and Avro refuses the file. What cannot be read as such a schema is left as it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

_SPARK_TYPES = {pa.string(): "string", pa.int32(): "integer"}
_AVRO_TYPES = {pa.string(): "string", pa.int32(): "int"}


def _spark(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, "type": _SPARK_TYPES[field.type], "nullable": True, "metadata": {}}


def _avro(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, "type": ["null", _AVRO_TYPES[field.type]], "default": None}


_SCHEMAS: dict[bytes, Callable[[pa.Field], dict[str, Any]]] = {
    b"org.apache.spark.sql.parquet.row.metadata": _spark,
    b"parquet.avro.schema": _avro,
    b"avro.schema": _avro,
}
"""The footer's entries, and how each tells of a column."""


def with_fields(metadata: Mapping[bytes, bytes], fields: Sequence[pa.Field]) -> dict[bytes, bytes]:
    """A footer's metadata in which every known schema has some columns more, behind its own.

    Args:
        metadata: The source's.
        fields: The columns that are added, of strings and 32-bit integers.
    """
    told = {key: _longer(metadata[key], fields, how) for key, how in _SCHEMAS.items() if key in metadata}
    return {**metadata, **told}


def _longer(schema: bytes, fields: Sequence[pa.Field], how: Callable[[pa.Field], dict[str, Any]]) -> bytes:
    try:
        told = json.loads(schema)
        told["fields"] += [how(field) for field in fields]
    except (ValueError, TypeError, LookupError):
        return schema
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def with_columns(entries, fields):
    out = []
    for k, v in entries:
        if k == b"ARROW:schema":
            import base64

            sc = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(v)))
            sc = pa.schema([*sc, *fields], metadata=sc.metadata)
            out.append((k, base64.b64encode(sc.serialize())))
        elif k in _SCHEMAS and v is not None:
            out.append((k, _longer(v, fields, _SCHEMAS[k])))
        else:
            out.append((k, v))
    return [a if a[1] != b[1] else b for a, b in zip(out, entries)]
