"""Test files written by pandas with both of its engines, and by fastparquet."""

import datetime as dt
import decimal
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import fastparquet
import numpy as np
import pandas as pd

from tests.common_columns import ROWS, ROWS_A_GROUP, TEXTS, Write, nulled


def _frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"n": np.arange(ROWS), "text": pd.Series(TEXTS, dtype=object), **columns})


def _numbers() -> pd.DataFrame:
    plain = {
        kind: np.arange(ROWS).astype(kind)
        for kind in ("int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64")
    }
    nullable = {
        kind: pd.array(nulled(list(range(ROWS))), dtype=kind)
        for kind in ("Int32", "Int64", "UInt64", "Float64")
    }
    floats = {
        kind: np.where(np.arange(ROWS) % 5, np.arange(ROWS) / 8, np.nan).astype(kind)
        for kind in ("float32", "float64")
    }
    flags = {
        "bool": np.arange(ROWS) % 2 == 0,
        "boolean": pd.array(nulled([True, False] * (ROWS // 2)), dtype="boolean"),
    }
    return _frame(**plain, **nullable, **floats, **flags)


def _times() -> pd.DataFrame:
    moments = pd.Series(pd.date_range("2020-01-01", periods=ROWS, freq="h")).astype("datetime64[ns]")
    holes = moments.where(moments.index % 5 != 1)
    return _frame(
        ns=holes,
        us=holes.astype("datetime64[us]"),
        zoned=holes.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        ago=pd.to_timedelta(np.arange(ROWS), unit="s").astype("timedelta64[ns]"),
    )


def _objects() -> pd.DataFrame:
    return _frame(
        bytes=pd.Series(nulled([bytes([0, 255, row % 256]) for row in range(ROWS)]), dtype=object),
        json=pd.Series([{"a": row, "b": [1, None]} for row in range(ROWS)], dtype=object),
        yes=pd.Series(nulled([row % 2 == 0 for row in range(ROWS)]), dtype=object),
        whole=pd.Series(nulled(list(range(ROWS))), dtype=object),
        decimal=pd.Series([decimal.Decimal(row) / 4 for row in range(ROWS)], dtype=object),
    )


def _categories() -> pd.DataFrame:
    words = pd.Categorical([f"w{row % 5}" if row % 9 else None for row in range(ROWS)])
    return _frame(words=words, numbers=pd.Categorical([row % 4 for row in range(ROWS)]))


def _nested() -> pd.DataFrame:
    return _frame(
        list=pd.Series(nulled([[row, 2] for row in range(ROWS)]), dtype=object),
        struct=pd.Series([{"a": row, "b": "x"} for row in range(ROWS)], dtype=object),
        day=pd.Series(nulled([dt.date(2020, 1, 1) + dt.timedelta(row) for row in range(ROWS)]), dtype=object),
        period=pd.period_range("1960-01", periods=ROWS, freq="M"),
        interval=pd.arrays.IntervalArray.from_breaks(range(ROWS + 1)),
    )


def _few() -> pd.DataFrame:
    return _frame(
        k=np.arange(ROWS) % 10, word=pd.Series([f"w{row % 5}" for row in range(ROWS)], dtype=object)
    )


def _indexed(index: pd.Index) -> pd.DataFrame:
    return _frame(k=np.arange(ROWS) % 10).set_index(index)


_INDEXES = {
    "range": pd.RangeIndex(5, 5 + 2 * ROWS, 2, name="place"),
    "names": pd.Index([f"i{row}" for row in range(ROWS)], name="key"),
    "dates": pd.date_range("2020-01-01", periods=ROWS, name="day"),
    "levels": pd.MultiIndex.from_arrays([np.arange(ROWS) // 9, np.arange(ROWS) % 9], names=["a", None]),
}


def _by_fastparquet(path: Path, frame: pd.DataFrame, **options: Any) -> None:
    with warnings.catch_warnings():
        # fastparquet triggers deprecation warnings of pandas.
        warnings.simplefilter("ignore")
        fastparquet.write(str(path), frame, **{"row_group_offsets": ROWS_A_GROUP} | options)


def _by_pandas(path: Path, frame: pd.DataFrame, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_parquet(path, **options)


_ENCODED = {
    "text": "utf8",
    "bytes": "bytes",
    "json": "json",
    "yes": "bool",
    "whole": "int",
    "decimal": "decimal",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    **{
        str(codec).lower(): {"compression": codec}
        for codec in (None, "GZIP", "SNAPPY", "ZSTD", "LZ4", "LZ4_RAW", "BROTLI")
    },
    "codec-a-column": {"compression": {"text": "ZSTD", "_default": None}},
    "nulls-of-some": {"has_nulls": ["text"]},
    "statistics": {"stats": True},
    "no-statistics": {"stats": False},
    "metadata": {"custom_metadata": {"owner": "me"}},
    "fixed-text": {"fixed_text": {"word": 4}},
    "index": {"write_index": True},
    "one-row-group": {"row_group_offsets": ROWS},
}

CASES: dict[str, Write] = {
    "fastparquet-numbers": partial(_by_fastparquet, frame=_numbers()),
    "fastparquet-times": partial(_by_fastparquet, frame=_times()),
    "fastparquet-int96": partial(_by_fastparquet, frame=_times()[["n", "text", "ns"]], times="int96"),
    "fastparquet-objects": partial(_by_fastparquet, frame=_objects(), object_encoding=_ENCODED),
    "fastparquet-categories": partial(_by_fastparquet, frame=_categories()),
    **{
        f"fastparquet-{name}": partial(_by_fastparquet, frame=_few(), **options)
        for name, options in _OPTIONS.items()
    },
    "pandas-numbers": partial(_by_pandas, frame=_numbers(), row_group_size=ROWS_A_GROUP),
    "pandas-times": partial(_by_pandas, frame=_times(), row_group_size=ROWS_A_GROUP),
    "pandas-nested": partial(_by_pandas, frame=_nested(), row_group_size=ROWS_A_GROUP),
    "pandas-categories": partial(_by_pandas, frame=_categories(), row_group_size=ROWS_A_GROUP),
    "pandas-mixed-names": partial(
        _by_pandas, frame=_few().rename(columns={"k": 0}), row_group_size=ROWS_A_GROUP
    ),
    **{
        f"pandas-index-of-{name}": partial(_by_pandas, frame=_indexed(index), row_group_size=ROWS_A_GROUP)
        for name, index in _INDEXES.items()
    },
    **{
        f"pandas-by-fastparquet-{name}": partial(
            _by_pandas, frame=frame, engine="fastparquet", row_group_offsets=ROWS_A_GROUP
        )
        for name, frame in {"numbers": _numbers(), "names": _indexed(_INDEXES["names"])}.items()
    },
}
