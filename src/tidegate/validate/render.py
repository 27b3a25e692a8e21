"""``tidegate validate profile``: reads rows from a file, a folder or a data version, writes one page. Does I/O."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.disk import atomic_file
from tidegate.validate.contract import Contract
from tidegate.validate.figures import TAIL
from tidegate.validate.file import file_violations, read_file, reference_violations, table_of
from tidegate.validate.findings import Table
from tidegate.validate.page import shown
from tidegate.validate.quarantine import QUARANTINE
from tidegate.version.digest import parse_listing
from tidegate.version.dvc import open_remote, read_object
from tidegate.version.history import find
from tidegate.workload import load_workload

if TYPE_CHECKING:
    import polars as pl

Rows = dict[str, "pl.DataFrame"]
DATA = (".parquet", ".csv")
ASIDE = {QUARANTINE, "rejected"}
"""Folders beside the rows that hold what did not pass."""


def profile(source: str, workload: str, against: str | None, state: Path, out: Path | None) -> dict[str, Any]:
    """Profile `source`, held against another one where asked, and write the page to `out`; returns what it shows.

    A source is a Parquet or CSV file, a folder of them (an ``arrivals`` or ``valid`` folder, for example) or a data
    version of the state folder (or how its name begins). Raises UserError in one line when there are no rows to read.
    """
    contract = load_workload(workload).contract()
    now = read_rows(source, contract, state)
    before = read_rows(against, contract, state) if against else {}
    tables = []
    for name, rows in sorted(now.items()):
        table = contract.tables[name]
        wrong = [*file_violations(rows, table), *reference_violations(rows, table, now)]
        found = shown(Table(name, rows, table, wrong, before.get(name)))
        changed = {c for finding in found["findings"] for c in finding["columns"] if finding["level"] == "change"}
        tables.append({**found, "changed": sorted(changed)})
    page = {"label": source, "workload": workload, "against": against, "tables": tables}
    if out is not None:
        with atomic_file(out) as made:
            made.write_text(html(page), encoding="utf-8")
    return {**page, "out": str(out) if out else None}


def html(page: dict[str, Any]) -> str:
    """The page as one HTML document that needs nothing but itself."""
    from jinja2 import Environment, StrictUndefined

    text = files("tidegate.validate").joinpath("profile.html.j2").read_text(encoding="utf-8")
    env = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return env.from_string(text).render(**page, tail=f"{TAIL:.1%}")


def read_rows(source: str, contract: Contract, state: Path) -> Rows:
    """The rows of a file, a folder or a data version, by table; UserError when there are none."""
    path = Path(source)
    if path.is_dir():
        places = [p for p in sorted(path.rglob("*")) if p.suffix in DATA and not ASIDE & set(p.relative_to(path).parts)]
        found = [(str(p.relative_to(path)), read_file(p)) for p in places]
    elif path.exists() or path.suffix in DATA:
        found = [(path.name, read_file(path))]
    else:
        found = _version(source, state)
    if not found:
        raise UserError(source, "no Parquet or CSV file", "a file, a folder of them, or a data version")
    return _by_table(found, contract)


def _version(name: str, state: Path) -> list[tuple[str, pl.DataFrame]]:
    """The partitions of a data version, read from its remote without a checkout."""
    import polars as pl

    try:
        known = find(state, name)
    except UserError:
        raise UserError(name, "no such file or data version", f"a file, a folder, or a version in {state}") from None
    remote = open_remote(known.remote)
    listed = parse_listing(read_object(remote, known.version), known.version)
    wanted = {path: md5 for path, md5 in listed.items() if path.endswith(DATA)}
    return [(path, pl.read_parquet(io.BytesIO(read_object(remote, md5)))) for path, md5 in wanted.items()]


def _by_table(found: list[tuple[str, pl.DataFrame]], contract: Contract) -> Rows:
    """Files of one table, one after the other; a column that only some have is null in the others."""
    import polars as pl

    parts: dict[str, list[pl.DataFrame]] = {}
    for where, rows in found:
        parts.setdefault(table_of(rows, contract, where), []).append(rows)
    try:
        return {name: pl.concat(frames, how="diagonal_relaxed") for name, frames in parts.items()}
    except pl.exceptions.PolarsError as error:
        raise UserError(found[0][0], " ".join(str(error).split())[:160], "files of one table with one schema") from None


def as_text(page: dict[str, Any]) -> str:
    """What stands out, a line each, for the terminal."""
    lines = []
    for table in page["tables"]:
        lines.append(f"{table['name']}: {table['rows']} rows")
        for one in table["findings"]:
            count = f" {one['rows']} rows." if "rows" in one else ""
            lines.append(f"  {one['check']} {'+'.join(one['columns'])}: {one['text']}{count}")
    return "\n".join([*lines, *([f"page: {page['out']}"] if page["out"] else [])])


def as_json(page: dict[str, Any]) -> dict[str, Any]:
    """The same as plain JSON values, without the drawings."""
    hidden = ("drawing", "bars")
    tables = [
        {**table, "columns": [{k: v for k, v in one.items() if k not in hidden} for one in table["columns"]]}
        for table in page["tables"]
    ]
    return dict(json.loads(json.dumps({**page, "tables": tables}, default=str)))
