"""What changed between two data versions: partitions and rows, by table. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tidegate.ingest.arrivals import Manifest, Partition


@dataclass(frozen=True)
class TableDiff:
    """One table: its rows before and after, and the partitions that were added, removed, or have other bytes."""

    rows_before: int
    rows_after: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return not (self.added or self.removed or self.changed)


def diff(before: Manifest, after: Manifest) -> dict[str, TableDiff]:
    """The difference of every table that one of the versions has, by name."""
    names = sorted({*before.tables, *after.tables})
    return {name: _table(before.tables.get(name, ()), after.tables.get(name, ())) for name in names}


def _table(before: tuple[Partition, ...], after: tuple[Partition, ...]) -> TableDiff:
    old, new = ({part.path: part.sha256 for part in parts} for parts in (before, after))
    return TableDiff(
        sum(part.rows for part in before),
        sum(part.rows for part in after),
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
    )


def document(first: str, second: str, tables: dict[str, TableDiff]) -> dict[str, Any]:
    """What `tidegate version diff --json` prints."""
    same = all(table.same for table in tables.values())
    return {"from": first, "to": second, "same": same, "tables": {name: asdict(one) for name, one in tables.items()}}


def text(first: str, second: str, tables: dict[str, TableDiff]) -> str:
    """The same for people: a line a table, a line a partition that differs."""
    lines = [f"{first} -> {second}"]
    for name, one in tables.items():
        lines.append(f"{name}: {one.rows_before} -> {one.rows_after} rows")
        marked = (("+", one.added), ("-", one.removed), ("~", one.changed))
        lines += [f"  {mark} {path}" for mark, paths in marked for path in paths]
    return "\n".join(lines)
