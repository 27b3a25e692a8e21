"""The validate step, gate 1: rows that keep the contract go on, bad rows into quarantine, too many of them refuse.

A refusal is a result, not an error: the report says why, and later steps only record it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate.errors import UserError
from tidegate.ingest.arrivals import Manifest, Partition, parse_until
from tidegate.ingest.sources import (
    MANIFEST,
    atomic_folder,
    link,
    read_manifest,
    read_parquet,
    sha256_of,
    write_parquet,
)
from tidegate.validate.check import REASONS, Violation, row_violations, schema_violations
from tidegate.validate.contract import TableContract
from tidegate.validate.repair import CHANGED, repaired
from tidegate.workload import EVENT_TIME, load_workload

if TYPE_CHECKING:
    import polars as pl

REPORT = "report.json"
QUARANTINE = "quarantine"
PART = "__part"


@dataclass(frozen=True)
class ValidateRecord:
    """The gate's verdict with the counts behind it; `reason` is one line, empty when passed."""

    verdict: Literal["passed", "refused"]
    rows: int
    quarantined: int
    repaired: int
    reason: str


@dataclass(frozen=True)
class Checked:
    """One table after the checks: its rows with partition, reasons and changed flag; none where the schema is wrong."""

    rows: pl.DataFrame | None
    violations: tuple[Violation, ...]
    repaired: dict[str, int]
    refused: str

    @property
    def bad(self) -> int:
        """Rows that go into quarantine."""
        return 0 if self.rows is None else self.rows.height - self.rows[REASONS].null_count()


def check_table(name: str, parts: list[pl.DataFrame], table: TableContract, until: datetime | None = None) -> Checked:
    """Check one table, given its partitions in order; `until`: no row may be later."""
    import polars as pl

    wrong = [violation for part in parts for violation in schema_violations(part.schema, part.height, table)]
    if wrong:
        return Checked(None, _merged(wrong), {}, f"{name}: {wrong[0].check} {wrong[0].column}")
    numbered = [part.select(table.names).with_columns(pl.lit(i, pl.Int32).alias(PART)) for i, part in enumerate(parts)]
    fixed, counts = repaired(pl.concat(numbered, how="vertical_relaxed"), table)
    violations, reasons = row_violations(fixed, table, until)
    bad = len(reasons) - reasons.null_count()
    refused = ""
    if bad > table.tolerated * fixed.height:
        refused = f"{name}: {bad} of {fixed.height} rows are bad, at most {table.tolerated:.1%} may be"
    return Checked(fixed.with_columns(reasons.alias(REASONS)), tuple(violations), counts, refused)


def validate(arrivals: Path, workload: str, out: Path) -> ValidateRecord:
    """Check `arrivals` and write the folder `out`: good rows, ``manifest.json``, ``report.json``, ``quarantine/``.

    A partition that needs no change keeps its bytes. When refused, `out` holds no rows but those in quarantine.
    Raises UserError when the folder or the workload cannot be read.
    """
    contract, manifest = load_workload(workload).contract(), read_manifest(arrivals)
    checked = {}
    for name, table in contract.tables.items():
        parts = [read_parquet(arrivals / part.path) for part in manifest.tables.get(name, ())]
        checked[name] = (
            check_table(name, parts, table, parse_until(manifest.until))
            if parts
            else Checked(None, (), {}, f"{name}: no rows of this table")
        )
    for name in sorted(set(manifest.tables) - set(contract.tables)):
        checked[name] = Checked(None, (Violation("new_table", name, 0, ()),), {}, f"{name}: no contract for this table")
    reasons = [table.refused for table in checked.values() if table.refused]
    with atomic_folder(out) as folder:
        for name, result in checked.items():
            _quarantine(result, folder / QUARANTINE / f"{name}.parquet")
        kept = {} if reasons else {name: _keep(checked[name], manifest, name, arrivals, folder) for name in checked}
        written = Manifest(manifest.workload, manifest.until, kept)
        (folder / MANIFEST).write_text(written.dump(), encoding="utf-8")
        report = report_of(checked, manifest.rows)
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    verdict: Literal["passed", "refused"] = "refused" if reasons else "passed"
    return ValidateRecord(
        verdict, written.rows, report["quarantined"], sum(report["repaired"].values()), "; ".join(reasons)
    )


def report_of(checked: dict[str, Checked], rows: int) -> dict[str, Any]:
    """The content of ``report.json``."""
    reasons = [table.refused for table in checked.values() if table.refused]
    return {
        "ok": not reasons,
        "rows": rows,
        "violations": [{"table": n, **asdict(v)} for n, table in checked.items() for v in table.violations],
        "repaired": {f"{n}.{rule}": count for n, table in checked.items() for rule, count in table.repaired.items()},
        "quarantined": sum(table.bad for table in checked.values()),
        "reasons": reasons,
    }


def validate_file(path: Path, workload: str) -> dict[str, Any]:
    """Check one Parquet or CSV file of rows: ``{"ok","rows","violations":[{"check","column","rows","examples"}]}``.

    The table is the one whose columns the file has most of. Every violation makes it not ok: a file has no
    quarantine. Raises UserError in one line when the file is missing, is unreadable or is no table of the workload.
    """
    contract = load_workload(workload).contract()
    rows = _read_file(path)
    name = max(contract.tables, key=lambda table: len(set(contract.tables[table].names) & set(rows.columns)))
    table = contract.tables[name]
    if not set(table.names) & set(rows.columns):
        known = "; ".join(f"{name} ({', '.join(table.names)})" for name, table in contract.tables.items())
        raise UserError(str(path), ", ".join(rows.columns)[:80], f"the columns of a table of {workload}: {known}")
    found = check_table(name, [rows], table)
    violations = [asdict(violation) for violation in found.violations]
    return {"ok": not violations, "rows": rows.height, "violations": violations}


def _read_file(path: Path) -> pl.DataFrame:
    import polars as pl

    if path.suffix != ".csv":
        return read_parquet(path)
    try:
        rows = pl.read_csv(path, try_parse_dates=True, infer_schema_length=None)
    except FileNotFoundError:
        raise UserError(str(path), "no file", "the path of a Parquet or CSV file") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable Parquet or CSV file") from None
    return rows.with_columns(pl.selectors.datetime().dt.cast_time_unit("us").dt.replace_time_zone("UTC"))


def _merged(violations: list[Violation]) -> tuple[Violation, ...]:
    """One violation a check and column; the rows of the partitions add up."""
    found: dict[tuple[str, str], Violation] = {}
    for one in violations:
        before = found.get((one.check, one.column))
        rows = one.rows + (before.rows if before else 0)
        found[one.check, one.column] = Violation(one.check, one.column, rows, one.examples)
    return tuple(found.values())


def _quarantine(table: Checked, path: Path) -> None:
    import polars as pl

    if table.bad and table.rows is not None:
        write_parquet(table.rows.filter(pl.col(REASONS).is_not_null()).drop(PART, CHANGED), path)


def _keep(table: Checked, manifest: Manifest, name: str, arrivals: Path, folder: Path) -> tuple[Partition, ...]:
    """Write the good rows, partition by partition; one without a change is linked."""
    import polars as pl

    if table.rows is None:
        return ()
    touched = set(table.rows.filter(pl.col(CHANGED) | pl.col(REASONS).is_not_null())[PART].unique().to_list())
    kept = []
    for i, part in enumerate(manifest.tables[name]):
        path = folder / part.path
        if i not in touched:
            link(arrivals / part.path, path)
            kept.append(part)
            continue
        rows = table.rows.filter((pl.col(PART) == i) & pl.col(REASONS).is_null()).drop(PART, CHANGED, REASONS)
        write_parquet(rows.sort(EVENT_TIME, maintain_order=True), path)
        kept.append(Partition(part.path, rows.height, sha256_of(path)))
    return tuple(kept)
