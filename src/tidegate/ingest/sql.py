"""Rows from SQL: tables and queries of any database that SQLAlchemy reaches."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.sources import Parted
from tidegate.workload import EVENT_TIME, Part

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection, Engine

MONTH = f"substr(cast({EVENT_TIME} as varchar(40)), 1, 7)"
"""``2013-01``: the same words in SQLite, where times are text, and in PostgreSQL, where the session's zone is UTC."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")


class Sql(Parted):
    """Tables from a database: ``Sql("sqlite:///rows.db", {"flights": "flights", "weather": "select ... from ..."})``.

    A piece is one month of event time; its token is its number of rows and its newest event time, which one grouping
    query asks for. Rows that are added change it, late ones too; a value that is changed in place does not.
    """

    def __init__(self, url: str, tables: Mapping[str, str]) -> None:
        self.url, self.tables = url, dict(tables)

    def parts(self) -> Iterable[Part]:
        """Every month of every table; UserError when the database does not answer."""
        engine = _engine(self.url)
        where = engine.url.render_as_string(hide_password=True)
        for table, query in self.tables.items():
            asked = f"select * from {query}" if NAME.fullmatch(query) else query  # noqa: S608
            grouped = (
                f"select {MONTH} as month, count(*) as n, cast(max({EVENT_TIME}) as varchar(40)) as newest"  # noqa: S608
                f" from ({asked}) as piece group by 1 order by 1"
            )
            for month, rows, newest in _answer(engine, grouped, {}, where)[1]:
                read = partial(_read, engine, asked, month, where)
                yield Part(table, f"{where}#{table}/{month or 'no-time'}", f"{rows}:{newest}", read)


def _engine(url: str) -> Engine:
    import sqlalchemy

    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise UserError("SQL source", _line(error), "the URL of a database whose driver is installed") from None


def _read(engine: Engine, asked: str, month: str | None, where: str) -> pl.DataFrame:
    import polars as pl

    which = f"{MONTH} is null" if month is None else f"{MONTH} = :month"
    names, rows = _answer(engine, f"select * from ({asked}) as piece where {which}", {"month": month}, where)  # noqa: S608
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pl.DataFrame([_series(name, list(values)) for name, values in zip(names, columns, strict=True)])


def _series(name: str, values: list[Any]) -> pl.Series:
    """A column as the driver gave it; text and numbers mixed, which SQLite allows, become text."""
    import polars as pl

    try:
        return pl.Series(name, values)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _answer(engine: Engine, query: str, given: Mapping[str, object], where: str) -> tuple[list[str], list[Any]]:
    """The names and rows of a query's answer; UserError, without the password, when the database refuses it."""
    import sqlalchemy

    try:
        with engine.connect() as connection:
            _in_utc(connection)
            answer = connection.execute(sqlalchemy.text(query), given)
            return list(answer.keys()), [tuple(row) for row in answer]
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = _line(getattr(error, "orig", None) or error)
        raise UserError(
            f"SQL source {where}", said, f"a database with tables that have a column {EVENT_TIME}"
        ) from None


def _in_utc(connection: Connection) -> None:
    import sqlalchemy

    if connection.dialect.name == "sqlite":  # bytes that are no UTF-8 cost their row, not the month
        raw: Any = connection.connection.driver_connection
        raw.text_factory = lambda content: content.decode("utf-8", "replace")
    if connection.dialect.name == "postgresql":
        connection.execute(sqlalchemy.text("set time zone 'UTC'"))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
