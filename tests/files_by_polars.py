"""Test files written by Polars: all its types, and all its options that change the file."""

import datetime as dt
import decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from tests.common_columns import ROWS, ROWS_A_GROUP, TEXTS, Write, nulled

_INTEGERS = [
    pl.Int8,
    pl.Int16,
    pl.Int32,
    pl.Int64,
    pl.Int128,
    pl.UInt8,
    pl.UInt16,
    pl.UInt32,
    pl.UInt64,
    pl.UInt128,
]
_UTC = dt.UTC


def _numbers() -> dict[str, pl.Series]:
    integers = {
        str(kind): pl.Series(nulled([row % 100 for row in range(ROWS)]), dtype=kind) for kind in _INTEGERS
    }
    floats = {
        str(kind): pl.Series(
            nulled([float("nan") if row == 7 else row / 8 for row in range(ROWS)]), dtype=kind
        )
        for kind in (pl.Float16, pl.Float32, pl.Float64)
    }
    decimals = {
        f"decimal{precision}": pl.Series(
            [decimal.Decimal(row) / 4 for row in range(ROWS)], dtype=pl.Decimal(precision, 2)
        )
        for precision in (7, 18, 38)
    }
    return {
        **integers,
        **floats,
        **decimals,
        "boolean": pl.Series(nulled([row % 2 == 0 for row in range(ROWS)])),
    }


def _times() -> dict[str, pl.Series]:
    moments = nulled([dt.datetime(2020, 1, 1, tzinfo=_UTC) + dt.timedelta(hours=row) for row in range(ROWS)])
    local = pl.Series(moments, dtype=pl.Datetime("us", "UTC")).dt.replace_time_zone(None)
    zones = {
        f"{zone}": local.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        for zone in ("UTC", "Asia/Tokyo")
    }
    return {
        **{unit: local.cast(pl.Datetime(unit)) for unit in ("ms", "us", "ns")},
        **zones,
        **{f"duration_{unit}": pl.Series(range(ROWS)).cast(pl.Duration(unit)) for unit in ("ms", "us", "ns")},
        "date": local.dt.date(),
        "time": local.dt.time(),
    }


def _bytes() -> dict[str, pl.Series]:
    words = pl.Series(nulled([f"w{row % 5}" for row in range(ROWS)]))
    return {
        "binary": pl.Series(nulled([bytes([0, 255, row % 256]) for row in range(ROWS)])),
        "categorical": words.cast(pl.Categorical),
        "enum": words.cast(pl.Enum(["w0", "w1", "w2", "w3", "w4"])),
        "null": pl.Series([None] * ROWS, dtype=pl.Null),
    }


def _nested() -> dict[str, pl.Series]:
    lists: list[Any] = [[row, None] if row % 3 else [] for row in range(ROWS)]
    structs: list[Any] = [{"a": row, "b": {"c": [f"x{row}"]}} for row in range(ROWS)]
    return {
        "list": pl.Series(nulled(lists), dtype=pl.List(pl.Int64)),
        "lists": pl.Series(nulled([[one, None, []] for one in lists]), dtype=pl.List(pl.List(pl.Int64))),
        "array": pl.Series(nulled([[row, 1] for row in range(ROWS)]), dtype=pl.Array(pl.Int32, 2)),
        "struct": pl.Series(nulled(structs)),
        "structs": pl.Series(nulled([[one, one] for one in structs])),
        "enums": pl.Series([["a"]] * ROWS, dtype=pl.List(pl.Enum(["a", "b"]))),
    }


def _few() -> dict[str, pl.Series]:
    return {"k": pl.Series([row // 200 * 1000 + row % 10 for row in range(ROWS)]), "list": _nested()["list"]}


def _write(path: Path, columns: dict[str, pl.Series], **options: Any) -> None:
    frame = pl.DataFrame({"n": pl.Series(range(ROWS), dtype=pl.Int64), "text": TEXTS, **columns})
    frame.write_parquet(path, **{"row_group_size": ROWS_A_GROUP} | options)


def _sink(path: Path) -> None:
    frame = pl.LazyFrame({"n": pl.Series(range(ROWS), dtype=pl.Int64), "text": TEXTS, **_few()})
    frame.sink_parquet(path, row_group_size=ROWS_A_GROUP, metadata={"owner": "me"})


_OPTIONS: dict[str, dict[str, Any]] = {
    **{
        codec: {"compression": codec} for codec in ("uncompressed", "snappy", "gzip", "zstd", "lz4", "brotli")
    },
    "no-statistics": {"statistics": False},
    "all-statistics": {"statistics": "full"},
    "small-pages": {"data_page_size": 500},
    "metadata": {"metadata": {"owner": "me"}},
    "by-pyarrow": {"use_pyarrow": True, "pyarrow_options": {"write_page_index": True}},
}

CASES: dict[str, Write] = {
    **{
        f"polars-{name}": partial(_write, columns=columns)
        for name, columns in {
            "numbers": _numbers(),
            "times": _times(),
            "bytes": _bytes(),
            "nested": _nested(),
        }.items()
    },
    **{f"polars-{name}": partial(_write, columns=_few(), **options) for name, options in _OPTIONS.items()},
    "polars-sink": _sink,
}
