"""Predictions into a table of SQLite or PostgreSQL: a partition's rows and the note of it in one transaction."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tidegate.errors import PlatformError, UserError
from tidegate.ingest.sql import NAME
from tidegate.serve.batch_output import Made, as_text

if TYPE_CHECKING:
    import pyarrow as pa

TAKES = "a table of predictions of these keys, or none yet"
WAIT = 60
"""Seconds that a writer of SQLite waits for another."""


class Table:
    """A table ``NAME`` of predictions, and ``NAME_parts``, which says what each partition was made of.

    The column `part` names the partition's line there. Both tables are made where they are not there. Raises UserError
    when the database does not answer or has another table of that name.
    """

    def __init__(self, url: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise UserError("--output", f"{url.rpartition('@')[2]}#{name}", "a URL with #TABLE or #SCHEMA.TABLE")
        schema, _, self._name = name.rpartition(".")
        try:
            self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
            raise UserError("--output", _line(error), "the URL of a database whose driver is installed") from None
        self._where = f"{self._engine.url.render_as_string(hide_password=True)}#{name}"
        self._metadata = sa.MetaData(schema=schema or None)
        self._parts = sa.Table(
            f"{self._name}_parts",
            self._metadata,
            sa.Column("part", sa.Integer, primary_key=True),
            sa.Column("partition", sa.Text, nullable=False, unique=True),
            sa.Column("made", sa.Text, nullable=False),
            sa.Column("rows", sa.BigInteger, nullable=False),
        )
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _plain)
            sa.event.listen(self._engine, "begin", lambda c: c.exec_driver_sql("BEGIN IMMEDIATE"))

    def begin(self) -> None:
        """As `Output.begin`: a killed run leaves no transaction."""

    def rows(self, made: Made) -> int | None:
        """As `Output.rows`."""
        parts = self._parts.c
        query = sa.select(parts.rows).where(parts.partition == made.partition, parts.made == _text(made))
        with self._asked() as connection:
            if not sa.inspect(connection).has_table(self._parts.name, self._parts.schema):
                return None
            found = connection.execute(query).scalar()
        return None if found is None else int(found)

    def write(self, made: Made, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """As `Output.write`: in one transaction, which also takes the partition's earlier rows away."""
        table = self._table(schema)
        with self._asked() as connection:
            if connection.dialect.name == "postgresql":  # several writers at once would all make the tables
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(table.fullname))))
            self._metadata.create_all(connection)
            self._check(connection, table)
        with self._asked() as connection:
            part = self._part(connection, made)
            connection.execute(sa.delete(table).where(table.c.part == part))
            rows = self._fill(connection, table, part, batches)
            values = {"made": _text(made), "rows": rows}
            connection.execute(sa.update(self._parts).where(self._parts.c.part == part).values(values))

    def finish(self) -> None:
        """As `Output.finish`: nothing is left to be done."""

    def _table(self, schema: pa.Schema) -> sa.Table:
        """The table of predictions with these columns, the keys indexed."""
        columns = [sa.Column(field.name, _kind(field.type)) for field in schema]
        part = sa.Column("part", sa.Integer, nullable=False, index=True)
        keys = columns[: schema.get_field_index("score")]
        index = sa.Index(f"ix_{self._name}_key", *keys)
        return sa.Table(self._name, self._metadata, *columns, part, index, extend_existing=True)

    def _check(self, connection: sa.Connection, table: sa.Table) -> None:
        """UserError where a table of that name was there, and is another one."""
        have = {column["name"] for column in sa.inspect(connection).get_columns(table.name, table.schema)}
        if lacking := [column.name for column in table.columns if column.name not in have]:
            raise UserError(f"--output {self._where}", f"a table without {', '.join(lacking)}", TAKES)

    def _part(self, connection: sa.Connection, made: Made) -> int:
        """The number of the partition's line, which is made where there is none."""
        query = sa.select(self._parts.c.part).where(self._parts.c.partition == made.partition)
        found = connection.execute(query).scalar()
        if found is None:
            values = {"partition": made.partition, "made": "", "rows": 0}
            found = connection.execute(sa.insert(self._parts).values(values)).inserted_primary_key[0]  # type: ignore[index]
        return int(found)

    def _fill(self, connection: sa.Connection, table: sa.Table, part: int, batches: Iterable[pa.RecordBatch]) -> int:
        put = _copy if connection.dialect.driver == "psycopg" else _insert
        rows = 0
        with put(connection, table) as send:
            for batch in batches:
                send(_tuples(batch, part, texts=connection.dialect.name == "sqlite"))
                rows += batch.num_rows
        return rows

    @contextlib.contextmanager
    def _asked(self) -> Iterator[sa.Connection]:
        """A transaction; what the database refuses, in one line of ours."""
        driver: Any = self._engine.dialect.dbapi
        try:
            with self._engine.begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, driver.Error) as error:
            cause = getattr(error, "orig", None) or error
            if isinstance(cause, driver.OperationalError):
                raise PlatformError(f"{self._where}: {_line(cause)}") from None
            raise UserError(f"--output {self._where}", _line(cause), TAKES) from None


Send = Callable[[Iterable[tuple[Any, ...]]], None]


@contextlib.contextmanager
def _insert(connection: sa.Connection, table: sa.Table) -> Iterator[Send]:
    cursor: Any = connection.connection.cursor()
    names = [column.name for column in table.columns]
    quote = connection.dialect.identifier_preparer.quote
    into = connection.dialect.identifier_preparer.format_table(table)
    marks = ", ".join("?" * len(names))
    statement = f"INSERT INTO {into} ({', '.join(map(quote, names))}) VALUES ({marks})"  # noqa: S608 - quoted names
    yield lambda rows: cursor.executemany(statement, rows)


@contextlib.contextmanager
def _copy(connection: sa.Connection, table: sa.Table) -> Iterator[Send]:
    raw: Any = connection.connection.driver_connection
    quote = connection.dialect.identifier_preparer.quote
    names = ", ".join(quote(column.name) for column in table.columns)
    into = connection.dialect.identifier_preparer.format_table(table)

    with raw.cursor() as cursor, cursor.copy(f"COPY {into} ({names}) FROM STDIN") as copy:

        def send(rows: Iterable[tuple[Any, ...]]) -> None:
            for row in rows:
                copy.write_row(row)

        yield send


def _tuples(batch: pa.RecordBatch, part: int, texts: bool) -> Iterator[tuple[Any, ...]]:
    """The rows with their part's number; `texts`: times as ISO 8601, for SQLite, which has no times."""
    plain = as_text(batch) if texts else batch
    columns = [column.to_pylist() for column in plain.columns]
    return zip(*columns, [part] * batch.num_rows, strict=True)


def _kind(kind: pa.DataType) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return sa.Text()
    if pa.types.is_integer(kind):
        return sa.BigInteger()
    if pa.types.is_floating(kind):
        return sa.Double()
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=True)
    if pa.types.is_boolean(kind):
        return sa.Boolean()
    if pa.types.is_date(kind):
        return sa.Date()
    raise UserError("key column", str(kind), "text, numbers, a time or a date")


def _plain(connection: Any, _record: object) -> None:
    """SQLite as its own client: we begin transactions ourselves, so that making a table is part of one."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {WAIT * 1000}")


def _text(made: Made) -> str:
    return json.dumps(asdict(made), sort_keys=True)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
