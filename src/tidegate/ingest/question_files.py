"""Files whose rows are questions: one time column, and a label that was known a stated time later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from tidegate.ingest.conform import as_times
from tidegate.ingest.files import Files
from tidegate.ingest.sources import Unreadable
from tidegate.workload import EVENT_TIME, Part

if TYPE_CHECKING:
    import polars as pl

ASKED = "asked_at"
"""When the question was asked: the prediction time."""


@dataclass(frozen=True)
class Shape:
    """How the rows of a file become rows of the table.

    Parameters
    ----------
    time: the file's column that becomes `ASKED`.
    label_after: a row counts as known so long after it was asked about, and nothing is made of it before.
    names: column of the table by column of the file; other columns are left out.
    nothing: texts that mean that there is no value, as ``NA``.
    """

    time: str
    label_after: timedelta
    names: Mapping[str, str]
    nothing: Sequence[str] = field(default=())

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The table's rows; Unreadable without the time column. What cannot be read as a time is null."""
        import polars as pl
        import polars.selectors as cs

        if self.time not in rows.columns:
            raise Unreadable("missing_column", f"no column {self.time}", self.time)
        asked = as_times(rows[self.time]).alias(ASKED)
        known = (asked + self.label_after).alias(EVENT_TIME)
        kept = rows.select(pl.col(raw).alias(name) for raw, name in self.names.items() if raw in rows.columns)
        clean = kept.with_columns(cs.float().fill_nan(None))
        if self.nothing:
            clean = clean.with_columns(cs.string().replace(dict.fromkeys(self.nothing)))
        return clean.with_columns(asked, known)


class QuestionFiles(Files):
    """One table of questions from a file, a folder or a glob; see `Files` for what a place may be."""

    def __init__(self, table: str, place: str, shape: Shape) -> None:
        super().__init__({table: place})
        self.shape = shape

    def parts(self) -> Iterable[Part]:
        """Every file that there is now."""
        for part in super().parts():
            yield replace(part, read=partial(_read, part, self.shape))


def _read(part: Part, shape: Shape) -> pl.DataFrame:
    return shape.of(part.read())
