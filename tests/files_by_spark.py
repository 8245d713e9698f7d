"""Test files written by Spark: its types, and the options of Spark and parquet-java that change the file."""

from dataclasses import dataclass, field
from pathlib import Path

from pyspark.sql import SparkSession

from tests.common_columns import ROWS, ROWS_A_GROUP

_TEXT = "case when id % 7 = 3 then null when id % 11 = 5 then '' else concat('text ', id, ' é') end"
_FLAT = {
    "tiny": "cast(id % 100 as tinyint)",
    "small": "cast(id as smallint)",
    "whole": "if(id % 5 = 1, null, cast(id as int))",
    "yes": "id % 2 = 0",
    "float": "if(id = 7, cast('nan' as float), cast(id / 3 as float))",
    "double": "if(id % 5 = 1, null, id / 3D)",
    "decimal9": "cast(id / 4 as decimal(9, 2))",
    "decimal18": "cast(id / 4 as decimal(18, 2))",
    "decimal38": "cast(id / 4 as decimal(38, 10))",
    "moment": "if(id % 5 = 1, null, timestamp'2020-01-01 00:00:00.1' + make_dt_interval(0, cast(id as int)))",
    "local": "timestamp_ntz'2020-01-01 00:00:00.123456' + make_dt_interval(cast(id as int))",
    "day": "date_add(date'0001-01-01', cast(id as int))",
    "months": "make_ym_interval(1, cast(id % 12 as int))",
    "seconds": "make_dt_interval(cast(id as int), 2)",
    "raw": "if(id % 5 = 1, null, cast(concat('x', id) as binary))",
    "nothing": "null",
    "lower": "concat('W', id % 5) collate UTF8_LCASE",
}
_NESTED = {
    "pair": "if(id % 4 = 0, null, named_struct('a', id, 'b', named_struct('c', 'x')))",
    "list": "if(id % 4 = 0, null, if(id % 4 = 1, array(), array(id, null)))",
    "lists": "array(array(id), array(), null)",
    "map": "map(concat('a', id), id, 'b', null)",
    "deep": "array(named_struct('a', map('k', array(id))))",
    "decimals": "array(cast(id as decimal(9, 2)))",
}
_VARIANT = {
    "variant": 'if(id % 4 = 0, null, parse_json(concat(\'{"a": \', id, \', "b": [1, "x"]}\')))',
    "mixed": "if(id % 2 = 0, to_variant_object(array(id)), parse_json('\"x\"'))",
}
_SHAPES = {"place": "st_geomfromwkb(unhex('0101000000000000000000F03F0000000000000040'))"}
_FEW = {"k": "id div 200 * 1000 + id % 10", "word": "concat('w', id % 5)", "list": "array(id, null)"}


@dataclass(frozen=True, slots=True)
class SparkFile:
    """Columns and options of a file that Spark writes.

    Attributes:
        columns: Columns other than ``n`` and ``text``, as SQL expressions of ``id``.
        options: Options of the writer.
        settings: Settings of the session.
        table: Types of the columns, for a file that is written through a table.
    """

    columns: dict[str, str] = field(default_factory=lambda: _FEW)
    options: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    table: str = ""

    def write(self, spark: SparkSession, path: Path) -> None:
        """Write the file."""
        folder = path.with_suffix(".folder")
        chosen = [f"{sql} as {name}" for name, sql in self.columns.items()]
        rows = spark.range(0, ROWS, 1, 1).selectExpr("id as n", f"{_TEXT} as text", *chosen)
        for name, value in self.settings.items():
            spark.conf.set(name, value)
        try:
            options = {"parquet.block.row.count.limit": str(ROWS_A_GROUP)} | self.options
            if self.table:
                columns = f"n bigint, text string, {self.table}"
                spark.sql(f"create table written ({columns}) using parquet location '{folder}'")
                rows.write.options(**options).insertInto("written")
                spark.sql("drop table written")
            else:
                rows.write.options(**options).parquet(str(folder))
        finally:
            for name in self.settings:
                spark.conf.unset(name)
        (written,) = folder.glob("*.parquet")
        written.rename(path)


_CODECS = ("uncompressed", "snappy", "gzip", "zstd", "lz4", "lz4_raw")
_TIMESTAMPS = "spark.sql.parquet.outputTimestampType"

CASES = {
    "types": SparkFile(_FLAT),
    "nested": SparkFile(_NESTED),
    "variant": SparkFile(_VARIANT),
    "variant-in-columns": SparkFile(
        _VARIANT,
        settings={
            "spark.sql.variant.writeShredding.enabled": "true",
            "spark.sql.variant.inferShreddingSchema": "true",
        },
    ),
    "shapes": SparkFile(_SHAPES),
    "legacy": SparkFile(_NESTED | _FLAT, settings={"spark.sql.parquet.writeLegacyFormat": "true"}),
    "micros": SparkFile(_FLAT, settings={_TIMESTAMPS: "TIMESTAMP_MICROS"}),
    "millis": SparkFile(_FLAT, settings={_TIMESTAMPS: "TIMESTAMP_MILLIS"}),
    "char-and-varchar": SparkFile(
        {"c": "concat('c', id % 5)", "v": "concat('v', id)"}, table="c char(5), v varchar(9)"
    ),
    **{codec: SparkFile(options={"compression": codec}) for codec in _CODECS},
    "bloom": SparkFile(
        options={
            "parquet.bloom.filter.enabled#k": "true",
            "parquet.bloom.filter.expected.ndv#k": "99",
            # A chunk with a dictionary gets no bloom filter.
            "parquet.enable.dictionary#k": "false",
        }
    ),
    "no-dictionary": SparkFile(_FEW, {"parquet.enable.dictionary": "false"}),
    "v2": SparkFile(_FLAT | _NESTED, {"parquet.writer.version": "PARQUET_2_0"}),
    "small-pages": SparkFile(_NESTED, {"parquet.page.row.count.limit": "17"}),
    "no-checksums": SparkFile(options={"parquet.page.write-checksum.enabled": "false"}),
    "byte-stream-split": SparkFile(
        _FLAT, {"parquet.enable.bytestreamsplit": "true", "parquet.enable.dictionary": "false"}
    ),
    "one-row-group": SparkFile(options={"parquet.block.row.count.limit": "100000"}),
}
