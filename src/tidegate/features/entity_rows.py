"""Entity rows as polars: from a pandas DataFrame or from a query. Does I/O."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import polars as pl
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from tidegate.errors import UserError
from tidegate.features.asof import TIME, utc


def entity_rows(entities: object, repo_path: Path | None) -> tuple[pl.DataFrame, str]:
    """The rows, with their time as UTC microseconds, and the name of that column.

    A string is a query that DuckDB answers: it reads any file that DuckDB can, ``SELECT ... FROM 'rows.parquet'``, a
    relative path from the Feast repo. The time is the column `event_timestamp`, or the only column of times.
    """
    if isinstance(entities, pd.DataFrame):
        return from_pandas(entities)
    if isinstance(entities, str):
        return from_query(entities, repo_path)
    raise UserError("entity_df", type(entities).__name__, "a pandas DataFrame, an SQL query or None")


def from_pandas(frame: pd.DataFrame) -> tuple[pl.DataFrame, str]:
    """The rows of a pandas frame without its index."""
    time = str(infer_event_timestamp_from_entity_df(dict(zip(frame.columns, frame.dtypes, strict=True))))
    columns = [
        _instants(frame[name], str(name)) if name == time else _column(frame[name], str(name)) for name in frame.columns
    ]
    return pl.DataFrame(columns), time


def from_query(query: str, repo_path: Path | None) -> tuple[pl.DataFrame, str]:
    """The rows of a query; UserError in one line when DuckDB cannot answer it."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if repo_path is not None:
            folder = str(repo_path).replace("'", "''")
            connection.execute(f"SET file_search_path = '{folder}'")
        try:
            answer = connection.sql(query)
            rows = pl.DataFrame(answer.to_arrow_table()) if answer is not None else pl.DataFrame()
        except duckdb.Error as error:
            raise UserError("entity_df", " ".join(str(error).split())[:200], "a query that DuckDB can answer") from None
    time = _time_column(rows)
    return rows.with_columns(utc(time)), time


def _time_column(rows: pl.DataFrame) -> str:
    times = [name for name, kind in rows.schema.items() if kind in (pl.Datetime, pl.Date)]
    if TIME in rows.columns:
        times = [TIME]
    if len(times) != 1:
        raise UserError("entity_df", f"columns {', '.join(rows.columns)}", f"a column {TIME}, or one column of times")
    return times[0]


def _instants(values: pd.Series[pd.Timestamp], name: str) -> pl.Series:
    """Times as UTC microseconds; naive ones are taken for UTC."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        try:
            values = pd.to_datetime(values, utc=True)
        except (ValueError, TypeError) as error:
            raise UserError(f"entity_df, column {name}", str(error)[:120], "times") from None
    return pl.Series(name, values.to_numpy(dtype="datetime64[us]")).dt.replace_time_zone("UTC")


def _column(values: pd.Series[str], name: str) -> pl.Series:
    """Text without a detour by way of Arrow, which costs five times as much; everything else by `pl.from_pandas`."""
    if values.dtype == object and len(values) and isinstance(values.iloc[0], str):
        try:
            return pl.Series(name, values.to_numpy(), dtype=pl.String)
        except TypeError:  # NaN or NA among the text
            pass
    try:
        return pl.from_pandas(values).alias(name)
    except (TypeError, ValueError) as error:
        raise UserError(f"entity_df, column {name}", str(error)[:120], "values of one type") from None
