"""The validate step, gate 1: rows that keep the contract go on, bad rows into quarantine, too many of them refuse.

A refusal is a result, not an error: the report says why, and later steps only record it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tidegate.ingest.arrivals import Manifest, parse_until
from tidegate.ingest.disk import MANIFEST, atomic_folder, read_manifest, read_parquet
from tidegate.validate.check import (
    PART,
    REASONS,
    Failure,
    Violation,
    good_rows,
    merged,
    reasons_of,
    reference_failures,
    schema_violations,
    table_failures,
    violations_of,
)
from tidegate.validate.contract import Contract, TableContract
from tidegate.validate.guards import guard_table, said
from tidegate.validate.profile import Profile, parse_profile, profile_of
from tidegate.validate.quarantine import QUARANTINE, good_part, keep, put_aside, read_rejected, rows_aside
from tidegate.validate.repair import repaired
from tidegate.workload import load_workload

if TYPE_CHECKING:
    import polars as pl

REPORT = "report.json"
PROFILE = "profile.json"


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
    """One table after the checks: its rows with partition, changed flag and, once `settled`, reasons.

    `rows` is None where the schema is wrong. `refused`: why it is refused. `guards`: what they were held against.
    """

    rows: pl.DataFrame | None = None
    failures: tuple[Failure, ...] = ()
    violations: tuple[Violation, ...] = ()
    repaired: Mapping[str, int] | None = None
    refused: tuple[str, ...] = ()
    guards: str = "not assessed: the table is refused"

    @property
    def good(self) -> pl.DataFrame | None:
        """The rows that fail nothing so far."""
        return None if self.rows is None else self.rows.filter(good_rows(self.rows.height, self.failures))

    @property
    def bad(self) -> int:
        """Rows that go into quarantine."""
        return 0 if self.rows is None else int((~good_rows(self.rows.height, self.failures)).sum())


def check_table(name: str, parts: list[pl.DataFrame], table: TableContract, until: datetime | None = None) -> Checked:
    """Check one table by itself, given its partitions in order; `until`: no row may be later."""
    import polars as pl

    if not parts:
        return Checked(refused=(f"{name}: no rows of this table",))
    wrong = [violation for part in parts for violation in schema_violations(part.schema, part.height, table)]
    if wrong:
        return Checked(violations=merged(wrong), refused=(f"{name}: {wrong[0].check} {wrong[0].column}",))
    aligned = [part if part.columns == list(table.names) else part.select(table.names) for part in parts]
    numbers = pl.concat([pl.repeat(i, part.height, dtype=pl.Int32, eager=True) for i, part in enumerate(parts)])
    fixed, counts = repaired(pl.concat(aligned, how="vertical_relaxed").with_columns(numbers.alias(PART)), table)
    return Checked(fixed, tuple(table_failures(fixed, table, until)), repaired=counts)


def check_references(checked: Mapping[str, Checked], contract: Contract) -> dict[str, Checked]:
    """The same tables with the rows that refer to nothing."""
    wanted = {one.table for table in contract.tables.values() for one in table.references}
    known = {name: rows for name in wanted if (rows := checked[name].good) is not None}
    answer = {}
    for name, one in checked.items():
        if one.rows is not None:
            good = good_rows(one.rows.height, one.failures)
            more = reference_failures(one.rows, good, contract.tables[name], known)
            one = replace(one, failures=(*one.failures, *more))
        answer[name] = one
    return answer


def settled(
    name: str, one: Checked, table: TableContract, rejected: list[Violation], reference: Profile | None
) -> Checked:
    """The table with reasons, violations and, over its error budget or past a guard, why it is refused.

    `rejected`: what ingest put aside of it; these rows count into the error budget.
    """
    aside = rows_aside(rejected, table)
    if one.rows is None:
        return replace(one, violations=(*merged(rejected), *one.violations))
    bad, refused = one.bad + aside, []
    if bad > table.tolerated * (one.rows.height + aside):
        total = one.rows.height + aside
        refused.append(f"{name}: {bad} of {total} rows are bad, at most {table.tolerated:.1%} may be")
    reasons = one.rows.with_columns(reasons_of(one.rows.height, one.failures).alias(REASONS))
    broken, guards = guard_table(good_part(reasons), table, name, reference)
    refused += [f"{name}: {said(breach)}" for breach in broken]
    violations = (*merged(rejected), *violations_of(one.rows, one.failures), *broken)
    return replace(one, rows=reasons, violations=violations, refused=tuple(refused), guards=guards)


def validate(arrivals: Path, workload: str, out: Path, reference: Path | None = None) -> ValidateRecord:
    """Check `arrivals` and write the folder `out`: good rows and ``manifest.json``, ``report.json``,
    ``profile.json``, ``quarantine/``.

    `reference`: the profile of the last good version, for the guards; None or no file: they are not assessed. A
    partition that needs no change keeps its bytes. When refused, `out` holds no rows but those in quarantine. Raises
    UserError when the folder, the profile or the workload cannot be read.
    """
    contract, manifest = load_workload(workload).contract(), read_manifest(arrivals)
    rejected, before = read_rejected(arrivals), read_profile(reference)
    checked = _checked(arrivals, manifest, contract)
    tables = {n: settled(n, checked[n], t, rejected.get(n, []), before) for n, t in contract.tables.items()}
    for name in sorted({*manifest.tables, *rejected} - set(contract.tables)):
        refused = (f"{name}: no contract for this table",)
        tables[name] = Checked(violations=(Violation("new_table", name, 0, ()),), refused=refused)
    report = report_of(tables, manifest.rows)
    with atomic_folder(out) as folder:
        kept = _write(tables, manifest, contract, arrivals, folder, report)
    verdict: Literal["passed", "refused"] = "passed" if report["ok"] else "refused"
    repairs = sum(report["repaired"].values())
    return ValidateRecord(verdict, kept.rows, report["quarantined"], repairs, "; ".join(report["reasons"]))


def read_profile(path: Path | None) -> Profile | None:
    """The profile in a file; None where there is no file."""
    if path is None or not path.is_file():
        return None
    return parse_profile(path.read_text(encoding="utf-8"), str(path))


def report_of(tables: Mapping[str, Checked], rows: int) -> dict[str, Any]:
    """The content of ``report.json``."""
    reasons = [reason for table in tables.values() for reason in table.refused]
    return {
        "ok": not reasons,
        "rows": rows,
        "violations": [{"table": n, **asdict(v)} for n, table in tables.items() for v in table.violations],
        "repaired": {f"{n}.{rule}": c for n, table in tables.items() for rule, c in (table.repaired or {}).items()},
        "quarantined": sum(table.bad for table in tables.values()),
        "guards": {name: table.guards for name, table in tables.items()},
        "reasons": reasons,
    }


def _checked(arrivals: Path, manifest: Manifest, contract: Contract) -> dict[str, Checked]:
    until = parse_until(manifest.until)
    found = {}
    for name, table in contract.tables.items():
        parts = [read_parquet(arrivals / part.path) for part in manifest.tables.get(name, ())]
        found[name] = check_table(name, parts, table, until)
    return check_references(found, contract)


def _write(
    tables: Mapping[str, Checked],
    manifest: Manifest,
    contract: Contract,
    arrivals: Path,
    folder: Path,
    report: Mapping[str, Any],
) -> Manifest:
    """Everything into `folder`; returns the manifest of what goes on."""
    read = {name: table.rows for name, table in tables.items() if table.rows is not None}
    for name, rows in read.items():
        put_aside(rows, folder / QUARANTINE / f"{name}.parquet")
    kept = {n: keep(rows, manifest.tables[n], arrivals, folder) for n, rows in read.items()} if report["ok"] else {}
    written = Manifest(manifest.workload, manifest.until, kept)
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if report["ok"]:
        figures = profile_of(manifest.until, {name: good_part(rows) for name, rows in read.items()}, contract)
        (folder / PROFILE).write_text(figures.dump(), encoding="utf-8")
    (folder / MANIFEST).write_text(written.dump(), encoding="utf-8")
    return written
