"""Adds the new columns to the schemas that other programs (Arrow, Spark, pandas, Avro) keep in a footer.

Readers use these schemas instead of Parquet's own. If they lack the new columns, Spark does not show them,
DataFusion rejects the file, and pandas fails. An entry that cannot be parsed as such a schema is not changed.
"""

import ast
import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks.core.parquet.footer import BAD_BYTES, Entry

_SPARK_TYPES = {pa.string(): "string", pa.int32(): "integer"}
_AVRO_TYPES = {pa.string(): "string", pa.int32(): "int"}
_PANDAS_TYPES = {pa.string(): ("unicode", "object"), pa.int32(): ("int32", "Int32")}
_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_A_SCHEMA = (*BAD_BYTES, ValueError, TypeError, LookupError, AttributeError, SyntaxError, RecursionError)


def with_columns(entries: Sequence[Entry], fields: Sequence[pa.Field]) -> list[Entry]:
    """Add columns at the end of every known schema in a footer's entries.

    Args:
        entries: The entries of the source.
        fields: The new columns, of type string or int32.

    Returns:
        The entries in the same order; unchanged ones are the same objects.
    """
    return [_with_columns(entry, fields) for entry in entries]


def _with_columns(entry: Entry, fields: Sequence[pa.Field]) -> Entry:
    key, value = entry
    if value is None or key not in _SCHEMAS:
        return entry
    try:
        return key, _SCHEMAS[key](value, fields)
    except _NOT_A_SCHEMA:
        return entry


def _arrow(value: bytes, fields: Sequence[pa.Field]) -> bytes:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value, validate=True)))
    # An Arrow schema has its own metadata, which may contain pandas' schema.
    metadata = dict(with_columns(list((schema.metadata or {}).items()), fields))
    longer = pa.schema([*schema, *fields], metadata=metadata or None)
    return base64.b64encode(longer.serialize())


def _json(edit: Callable[[Any, Sequence[pa.Field]], object]) -> Callable[[bytes, Sequence[pa.Field]], bytes]:
    def edited(value: bytes, fields: Sequence[pa.Field]) -> bytes:
        schema = json.loads(value)
        edit(schema, fields)
        return json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()

    return edited


def _spark(schema: Any, fields: Sequence[pa.Field]) -> None:
    schema["fields"] += [
        {"name": field.name, "type": _SPARK_TYPES[field.type], "nullable": True, "metadata": {}}
        for field in fields
    ]


def _avro(schema: Any, fields: Sequence[pa.Field]) -> None:
    if not all(_AVRO_NAME.fullmatch(field.name) for field in fields):
        # Avro would reject the whole schema; an unchanged one still shows all other columns.
        raise ValueError
    schema["fields"] += [
        {"name": field.name, "type": ["null", _AVRO_TYPES[field.type]], "default": None} for field in fields
    ]


def _pandas(schema: Any, fields: Sequence[pa.Field]) -> None:
    """Add columns with string names to a table whose column names may have another type.

    pandas gives all column names of a level the same type. In an output, names that are numbers stay numbers;
    names of other types, such as dates, become strings.
    """
    levels = schema.get("column_indexes") or []
    kinds = [_python_type(level) for level in levels]
    if any(kinds):
        _keep_names(schema, kinds)
        for level, kind in zip(levels, kinds, strict=True):
            if kind:
                level |= {"pandas_type": "mixed", "numpy_type": "object", "metadata": None}
    for field in fields:
        name = field.name if len(levels) <= 1 else repr((field.name, *[""] * (len(levels) - 1)))
        pandas_type, numpy_type = _PANDAS_TYPES[field.type]
        schema["columns"].append(
            {
                "name": name,
                "field_name": field.name,
                "pandas_type": pandas_type,
                "numpy_type": numpy_type,
                "metadata": None,
            }
        )


def _python_type(level: Mapping[str, Any]) -> Callable[[str], object] | None:
    """The function that converts a name's text to its type; None for strings."""
    kind = level["pandas_type"]
    if kind in {"unicode", "string", "empty"} or "mixed" in kind:
        return None
    numbers: dict[str, Callable[[str], object]] = {
        "int": int,
        "uint": int,
        "float": float,
        "bool": lambda text: text == "True",
    }
    return numbers.get(kind.rstrip("0123456789"), str)


def _keep_names(schema: Any, kinds: Sequence[Callable[[str], object] | None]) -> None:
    for column in schema["columns"]:
        if column.get("field_name") in schema["index_columns"] or not isinstance(column["name"], str):
            continue
        if len(kinds) == 1:
            column["name"] = (kinds[0] or str)(column["name"])
        else:
            names = zip(ast.literal_eval(column["name"]), kinds, strict=True)
            column["name"] = repr(tuple((kind or str)(name) for name, kind in names))


_SCHEMAS: dict[bytes, Callable[[bytes, Sequence[pa.Field]], bytes]] = {
    b"ARROW:schema": _arrow,
    b"org.apache.spark.sql.parquet.row.metadata": _json(_spark),
    b"parquet.avro.schema": _json(_avro),
    b"avro.schema": _json(_avro),
    b"pandas": _json(_pandas),
}
"""Entries that contain schemas, each with the function that adds columns to it."""
