"""The point-in-time join for a view that does not fit in memory: DuckDB reads the files and spills to disk. Does I/O.

The rules are those of `tidegate.features.asof`, and so are the answers, equal rows included.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from tidegate.errors import PlatformError
from tidegate.features.asof import AT, INSTANT, KEY, TIME, AsofView, left_side, lookup, named
from tidegate.features.opened import OpenedView
from tidegate.features.parquet_source import WIDER, ParquetSource, unreadable

_LEAST = 128 * 2**20
"""DuckDB is given this much, and as much for each thread."""
_LAST = "v.t DESC, v.made DESC NULLS LAST, v.file DESC, v.number DESC"


def lookup_spilling(
    rows: pl.DataFrame, opened: OpenedView, memory: int, time: str = TIME, known: str | None = None
) -> pl.DataFrame:
    """What `asof.lookup` gives for the view's rows, within about `memory` bytes beside the answer."""
    view, schema = opened.view, opened.schema
    reach = opened.reach(rows[time])
    if reach is None:
        return lookup(rows, view, pl.DataFrame(schema=schema), time)
    bitemporal = known is not None and view.created is not None
    asked = left_side(rows, view, schema, time).rename({AT: "t"}).with_row_index("row")
    if bitemporal:
        asked = asked.with_columns(rows[str(known)].cast(INSTANT).alias("known"))
    where = _condition(str(opened.in_file.get(view.timestamp, view.timestamp)), schema[view.timestamp], *reach)
    answer = _ask(_query(opened, where, bitemporal), asked, opened.source, memory)
    return named(answer.cast({feature: schema[feature] for feature in view.features}), view)


def _ask(query: str, asked: pl.DataFrame, source: ParquetSource, memory: int) -> pl.DataFrame:
    """The answer to a query of the entity rows `asked` and the list of the source's files, `$1`."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="tidegate-spill-") as folder, duckdb.connect() as connection:
        _prepare(connection, source, folder, memory)
        connection.register("asked", asked.to_arrow())
        files = [part if source.files is None else source.files.unstrip_protocol(part) for part in source.parts()]
        try:
            return pl.DataFrame(connection.sql(query, params=[files]).to_arrow_table())
        except duckdb.OutOfMemoryException as error:
            raise PlatformError(f"{source.url}: cannot be joined in {memory // 2**20} MiB ({error})") from None
        except (duckdb.IOException, duckdb.InvalidInputException, OSError) as error:
            raise unreadable(source.url, error) from None


def _prepare(connection: Any, source: ParquetSource, folder: str, memory: int) -> None:
    settings = {
        "memory_limit": f"{max(memory, _LEAST) // 2**20}MiB",
        "threads": max(1, min(os.cpu_count() or 1, memory // _LEAST)),
        "preserve_insertion_order": False,
        "temp_directory": folder,
        "TimeZone": "UTC",
        "enable_progress_bar": False,
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = '{value}'")
    if source.files is not None:
        connection.register_filesystem(source.files)


def _query(opened: OpenedView, where: str, bitemporal: bool) -> str:
    """One SELECT: the features by entity row, in order."""
    view = opened.view
    keys = range(len(view.keys))
    same = [f"asked.{quoted(KEY + key)} = v.k{number}" for number, key in zip(keys, view.keys, strict=True)]
    values = [f"f{number}" for number in range(len(view.features))]
    groups = ", ".join([*(f"k{number}" for number in keys), "t"])
    fresh = "true" if view.ttl is None else f"v.t >= asked.t - {_interval(view.ttl)}"
    late = "v.made > asked.known" if bitemporal else "false"
    text = f"""
        WITH v AS ({_table(view, opened.in_file, where)}),
        newest AS (SELECT * FROM v QUALIFY row_number() OVER (PARTITION BY {groups} ORDER BY {_LAST}) = 1),
        found AS (
            SELECT asked.row, {late} AS late, {_columns("v", values, fresh)}
            FROM asked ASOF LEFT JOIN newest v ON {" AND ".join([*same, "asked.t >= v.t"])}
        )"""  # noqa: S608
    if not bitemporal:
        return f"{text} SELECT {', '.join(_as_named(view))} FROM found ORDER BY row"  # noqa: S608
    return f"""{text},
        again AS (
            SELECT asked.row, {_columns("v", values, "true")}
            FROM asked JOIN v ON {" AND ".join([*same, "v.t <= asked.t", fresh])}
            WHERE asked.row IN (SELECT row FROM found WHERE late) AND (v.made IS NULL OR v.made <= asked.known)
            QUALIFY row_number() OVER (PARTITION BY asked.row ORDER BY {_LAST}) = 1
        ),
        every AS (
            SELECT * EXCLUDE (late) FROM found WHERE late IS NOT TRUE
            UNION ALL BY NAME SELECT * FROM again
        )
        SELECT {", ".join(_as_named(view))} FROM asked LEFT JOIN every USING (row) ORDER BY row"""  # noqa: S608


def _table(view: AsofView, in_file: Mapping[str, str], where: str) -> str:
    """The view's rows under short names: keys k0.., features f0.., the times, and the place in the files."""
    column = {name: quoted(in_file.get(name, name)) for name in view.columns}
    at = f"CAST({column[view.timestamp]} AS TIMESTAMPTZ)"
    made = f"CAST({column[view.created]} AS TIMESTAMPTZ)" if view.created else "NULL::TIMESTAMPTZ"
    selected = [
        *(f"{column[key]} AS k{number}" for number, key in enumerate(view.keys)),
        *(f"{column[feature]} AS f{number}" for number, feature in enumerate(view.features)),
        f"{at} AS t, {made} AS made, filename AS file, file_row_number AS number",
    ]
    present = [f"{column[name]} IS NOT NULL" for name in (*view.keys, view.timestamp)]
    return (
        f"SELECT {', '.join(selected)} "  # noqa: S608
        f"FROM read_parquet($1, filename = true, file_row_number = true, union_by_name = true) "
        f"WHERE {' AND '.join([*present, where])}"
    )


def _condition(column: str, kind: pl.DataType, low: datetime | None, high: datetime) -> str:
    """The times that can count, a millisecond wider, so that row groups of others are not read."""
    zoned = "TIMESTAMPTZ" if getattr(kind, "time_zone", None) else "TIMESTAMP"
    limits = [f"{quoted(column)} <= {zoned} '{(high + WIDER).replace(tzinfo=None)}'"]
    if low is not None:
        limits.append(f"{quoted(column)} >= {zoned} '{(low - WIDER).replace(tzinfo=None)}'")
    return " AND ".join(limits)


def _columns(table: str, values: list[str], condition: str) -> str:
    return ", ".join(f"CASE WHEN {condition} THEN {table}.{value} END AS {value}" for value in values)


def _as_named(view: AsofView) -> list[str]:
    return [f"f{number} AS {quoted(feature)}" for number, feature in enumerate(view.features)]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _interval(span: timedelta) -> str:
    return f"to_microseconds({span // timedelta(microseconds=1)})"
