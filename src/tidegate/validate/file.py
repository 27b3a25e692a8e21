"""One file of rows, checked by hand. Does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.files import parquet_rows
from tidegate.ingest.sources import Unreadable
from tidegate.validate.check import (
    PART,
    Violation,
    reference_failures,
    schema_violations,
    table_failures,
    violations_of,
)
from tidegate.validate.contract import Contract, Reference, TableContract
from tidegate.validate.repair import repaired
from tidegate.workload import EVENT_TIME, load_workload

if TYPE_CHECKING:
    import polars as pl


def validate_file(path: Path, workload: str) -> dict[str, Any]:
    """Check one Parquet or CSV file of rows: ``{"ok","rows","violations":[{"check","column","rows","examples"}]}``.

    The table is the one whose columns the file has most of. Every violation makes it not ok: a file has no
    quarantine. References to other tables and guards are not assessed. Raises UserError in one line when the file is
    missing, is unreadable or is no table of the workload.
    """
    contract = load_workload(workload).contract()
    rows = read_file(path)
    violations = file_violations(rows, contract.tables[table_of(rows, contract, str(path))])
    return {"ok": not violations, "rows": rows.height, "violations": [asdict(violation) for violation in violations]}


def file_violations(rows: pl.DataFrame, table: TableContract) -> list[Violation]:
    """What is wrong with the schema, then with the repaired rows, as far as their columns are right."""
    import polars as pl

    wrong = schema_violations(rows.schema, rows.height, table)
    table = _as_far_as_it_goes(table, {one.column for one in wrong})
    fixed, _ = repaired(rows.with_columns(pl.lit(0, pl.Int32).alias(PART)), table)
    return [*wrong, *violations_of(fixed, table_failures(fixed, table))]


def reference_violations(
    rows: pl.DataFrame, table: TableContract, tables: Mapping[str, pl.DataFrame]
) -> list[Violation]:
    """Values that the other table does not have, of the references whose both ends are there."""
    import polars as pl

    def there(one: Reference) -> bool:
        return one.column in rows.columns and one.table in tables and one.other in tables[one.table].columns

    known = replace(table, references=tuple(one for one in table.references if there(one)))
    every = pl.repeat(True, rows.height, dtype=pl.Boolean, eager=True)
    return list(violations_of(rows, reference_failures(rows, every, known, tables)))


def _as_far_as_it_goes(table: TableContract, wrong: set[str]) -> TableContract:
    """The contract without the columns that are not right and what looks at them."""
    return replace(
        table,
        columns=tuple(column for column in table.columns if column.name not in wrong),
        key=() if wrong & set(table.key) else table.key,
        rules=tuple(rule for rule in table.rules if not wrong & set(rule.columns)),
        repairs=tuple(one for one in table.repairs if not wrong & {one.column, *one.value().meta.root_names()}),
        monotone=tuple(one for one in table.monotone if not wrong & {one.column, *one.within, EVENT_TIME}),
    )


def table_of(rows: pl.DataFrame, contract: Contract, where: str) -> str:
    """The name of the table whose columns the rows have most of; UserError when they have none."""
    name = max(contract.tables, key=lambda table: len(set(contract.tables[table].names) & set(rows.columns)))
    if not set(contract.tables[name].names) & set(rows.columns):
        known = "; ".join(f"{name} ({', '.join(table.names)})" for name, table in contract.tables.items())
        raise UserError(where, ", ".join(rows.columns)[:80], f"the columns of a table of the workload: {known}")
    return name


def read_file(path: Path) -> pl.DataFrame:
    """The rows of a Parquet or CSV file (times without a zone are UTC); UserError in one line when it is none."""
    import polars as pl

    if path.suffix != ".csv":
        return _parquet(path)
    try:
        rows = pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)
    except FileNotFoundError:
        raise UserError(str(path), "no file", "the path of a Parquet or CSV file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable Parquet or CSV file") from None
    return rows.with_columns(pl.selectors.datetime().dt.cast_time_unit("us").dt.replace_time_zone("UTC"))


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return parquet_rows(path.read_bytes())
    except OSError as error:
        said = "no file" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(str(path), said, "the path of a Parquet or CSV file") from None
    except Unreadable as error:
        raise UserError(str(path), str(error), "a readable Parquet file") from None
