"""Test files written by DuckDB: all its types, and all its options that change the file."""

from functools import partial
from pathlib import Path

import duckdb

from tests.common_columns import ROWS, ROWS_A_GROUP, Write

_TEXT = "case when i % 7 = 3 then null when i % 11 = 5 then '' else 'text ' || i || ' é' end"
_NUMBERS = {
    "tiny": "(i % 100)::tinyint",
    "small": "i::smallint",
    "whole": "i::integer",
    "unsigned": "i::ubigint",
    "utiny": "(i % 200)::utinyint",
    "huge": "i::hugeint * 17014118346046923173168730371588",
    "uhuge": "i::uhugeint",
    "big": "i::bignum",
    "yes": "i % 2 = 0",
    "float": "case when i = 7 then 'nan'::float when i = 8 then '-0'::float else i / 3 end",
    "double": "case when i = 9 then '-inf'::double else i / 3 end",
    "decimal4": "i::decimal(4, 1)",
    "decimal9": "i::decimal(9, 2)",
    "decimal18": "i::decimal(18, 3)",
    "decimal38": "i::decimal(38, 10)",
}
_TIMES = {
    "day": "date '0001-01-01' + i::integer",
    "clock": "time '11:22:33.123456' + to_seconds(i)",
    "clock_tz": "'11:22:33+02'::timetz",
    "clock_ns": "'11:22:33.123456789'::time_ns",
    "s": "timestamp_s '2020-01-01 00:00:01'",
    "ms": "timestamp_ms '2020-01-01 00:00:01.001'",
    "us": "timestamp '1600-01-01' + to_days(i::integer)",
    "ns": "timestamp_ns '2020-01-01 00:00:01.123456789'",
    "tz": "timestamptz '2020-01-01 00:00:00+02' + to_hours(i)",
    "ago": "to_months(i::integer) + to_days(2) + to_milliseconds(i)",
}
_BYTES = {
    "id": "md5(i::varchar)::uuid",
    "bits": "'0101'::bit || (i % 2)::varchar::bit",
    "mood": "(case i % 3 when 0 then 'sad' when 1 then 'ok' else 'happy' end)::enum('sad', 'ok', 'happy')",
    "raw": "'\\x00\\xFF'::blob || encode(i::varchar)",
    "json": "json_object('a', i, 'b', [1, null])",
    "nothing": "null",
    "shape": "('POINT(' || i || ' 2)')::geometry",
}
_NESTED = {
    "pair": "case when i % 4 = 0 then null else {'a': i, 'b': {'c': 'x' || i}} end",
    "list": "case when i % 4 = 0 then null when i % 4 = 1 then [] else [i, null] end",
    "lists": "[[i], [], null, [i, 2]]",
    "map": "map {'a' || i: i, 'b': null}",
    "array": "[i, i + 1]::bigint[2]",
    "either": "(case when i % 2 = 0 then i::varchar else 'z' end)::union(x bigint, y varchar)",
    "structs": "[{'a': i, 'b': map {'k': [i]}}]",
}
_VARIANTS = {
    "plain": "i::variant",
    "mixed": "case when i % 3 = 0 then i::variant when i % 3 = 1 then 'x'::variant else [1, 2]::variant end",
    "deep": "{'a': i, 'b': 'x'}::variant",
}
_FEW = {"k": "(i // 200) * 1000 + i % 10", "word": "'w' || (i % 5)", "list": "[i, null]", "float": "i / 7"}


def _write(path: Path, columns: dict[str, str], options: str = "") -> None:
    chosen = ", ".join(f"{sql} as {name}" for name, sql in columns.items())
    parts = [
        # Only constants of this file are formatted into the query.
        f"select i as n, {_TEXT} as text, {chosen} from range({start}, {start + ROWS_A_GROUP}) t(i)"  # noqa: S608
        for start in range(0, ROWS, ROWS_A_GROUP)
    ]
    format_options = f"format parquet, row_group_size {ROWS_A_GROUP}{options}"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set timezone = 'UTC'")
        # The end of each part of the union ends a row group, although DuckDB's minimum is 2,048 rows.
        connection.execute(f"copy ({' union all '.join(parts)}) to '{path}' ({format_options})")


_TYPES = {"numbers": _NUMBERS, "times": _TIMES, "bytes": _BYTES, "nested": _NESTED, "variants": _VARIANTS}
_OPTIONS = {
    **{
        codec: f", codec {codec}" for codec in ("uncompressed", "snappy", "gzip", "zstd", "lz4_raw", "brotli")
    },
    "zstd-level": ", codec zstd, compression_level 19",
    "v2": ", parquet_version v2",
    "field-ids": ", field_ids 'auto'",
    "some-field-ids": ", field_ids {text: 7, list: {__duckdb_field_id: 9, element: 12}}",
    "bloom": ", bloom_filter_false_positive_ratio 0.001",
    "no-bloom": ", write_bloom_filter false",
    "no-dictionary": ", dictionary_size_limit 0",
    "small-pages": ", data_page_size_limit 500",
    "page-index": ", write_page_index true, data_page_size_limit 500",
    "metadata": ", kv_metadata {owner: 'me', summary: 'x'}",
}

CASES: dict[str, Write] = {
    **{f"duckdb-{name}": partial(_write, columns=columns) for name, columns in _TYPES.items()},
    "duckdb-types-v2": partial(_write, columns=_NUMBERS | _BYTES | _NESTED, options=", parquet_version v2"),
    **{f"duckdb-{name}": partial(_write, columns=_FEW, options=sql) for name, sql in _OPTIONS.items()},
}
