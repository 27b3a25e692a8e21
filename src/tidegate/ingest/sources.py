"""Sources that hand over pieces with a token each: the base of `Files` and `Sql`, and several of them as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tidegate.errors import UserError
from tidegate.workload import EVENT_TIME, Part

if TYPE_CHECKING:
    import polars as pl


class Unreadable(Exception):
    """A piece whose content is at fault: it is put aside by `check`, and nothing else is lost.

    A source that does not answer is a UserError instead: ingest stops, and the next one takes the piece.
    """

    def __init__(self, check: str, why: str, column: str = "") -> None:
        super().__init__(f"{check}({column}): {why}" if column else f"{check}: {why}")
        self.check, self.why, self.column = check, why, column


class Parted:
    """A source made of its `parts`; see `tidegate.workload.PartedSource`."""

    def parts(self) -> Iterable[Part]:
        """Every piece that there is now."""
        raise NotImplementedError

    def arrivals(self, until: datetime) -> dict[str, pl.DataFrame]:
        """Every row of every piece; see `tidegate.workload.Source`.

        All pieces are read. The ingest step does better: it reads new pieces only, and puts aside what does not fit.
        """
        import polars as pl

        read: dict[str, list[pl.DataFrame]] = {}
        for part in self.parts():
            try:
                read.setdefault(part.table, []).append(part.read())
            except Unreadable as error:
                raise UserError(part.name, str(error), "a readable file of rows") from None
        tables = {name: pl.concat(frames, how="vertical_relaxed").unique() for name, frames in read.items()}
        return {
            name: table.filter(pl.col(EVENT_TIME) <= until).sort(EVENT_TIME, pl.exclude(EVENT_TIME))
            for name, table in tables.items()
        }


class Together(Parted):
    """Several sources as one; a table may get pieces from more than one of them."""

    def __init__(self, *sources: Parted) -> None:
        self.sources: Sequence[Parted] = sources

    def parts(self) -> Iterable[Part]:
        """The pieces of one source after the other."""
        for source in self.sources:
            yield from source.parts()
