"""What ingest hands on: partitions by month or day of event time and the manifest that lists them. Pure.

A month of event time that has passed seldom changes, so its partition keeps its bytes from one ingest to the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from tidegate.errors import UserError
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

FORMATS = {"month": "%Y-%m", "day": "%Y-%m-%d"}


@dataclass(frozen=True)
class Partition:
    """One file of a table: its path in the folder, its rows and the SHA-256 of its bytes."""

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything in an ``arrivals/`` or ``valid/`` folder, by table, partitions in order of time."""

    workload: str
    until: str
    tables: dict[str, tuple[Partition, ...]]

    @property
    def rows(self) -> int:
        """Rows of all tables together."""
        return sum(part.rows for parts in self.tables.values() for part in parts)

    def dump(self) -> str:
        """The text of ``manifest.json``."""
        tables = {
            name: {"rows": sum(part.rows for part in parts), "partitions": [vars(part) for part in parts]}
            for name, parts in sorted(self.tables.items())
        }
        return json.dumps({"workload": self.workload, "until": self.until, "tables": tables}, indent=1) + "\n"


def parse_manifest(text: str, where: str) -> Manifest:
    """The inverse of `Manifest.dump`; UserError when the text is no manifest."""
    try:
        read = json.loads(text)
        tables = {
            name: tuple(Partition(**part) for part in table["partitions"]) for name, table in read["tables"].items()
        }
        return Manifest(read["workload"], read["until"], tables)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(where, text[:40], "the manifest.json of an ingest or a validate step") from None


def parse_until(text: str) -> datetime:
    """``2013-07-01``, ``2013-07-01T00:00:00Z`` or with another offset -> UTC; a time without one is UTC."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UserError("until", text, "an ISO 8601 time, for example 2013-07-01T00:00:00Z") from None
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


def format_time(time: datetime) -> str:
    """A UTC time as ISO 8601 with Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def by_partition(table: pl.DataFrame, unit: Literal["month", "day"]) -> list[tuple[str, pl.DataFrame]]:
    """``("2013-01", rows)`` for each month or day of event time with rows, in order; the rows keep their order."""
    import polars as pl

    named = table.with_columns(pl.col(EVENT_TIME).dt.strftime(FORMATS[unit]).alias("__partition"))
    parts = named.partition_by("__partition", as_dict=True, include_key=False, maintain_order=True)
    return sorted((str(name), part) for (name,), part in parts.items())
