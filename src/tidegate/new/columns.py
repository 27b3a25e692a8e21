"""What a file's columns say: kinds, limits, values, which of them a model can use. Pure."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tidegate.errors import UserError
from tidegate.ingest.conform import conform
from tidegate.ingest.question_files import ASKED
from tidegate.validate.contract import Column, Guard, Kind, TableContract
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

NOTHING = ("NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")
"""Texts that are taken for no value, where a column has them beside values."""
MOST_VALUES = 50
"""Values that a category may have."""
TAKEN = (ASKED, EVENT_TIME, "event_timestamp", "label_timestamp", "created", "label", "outcome", "row_id", "at")
"""Columns of the platform's own."""


@dataclass(frozen=True)
class Seen:
    """A column of the file: its name there and in the table, its kind, its values where it is a category.

    `why_not`: why no model uses it; empty where one can.
    """

    raw: str
    name: str
    column: Column
    values: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def category(self) -> bool:
        """Whether it is a category."""
        return bool(self.values)


def names_of(raw: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """The table's name of each column: lower case, letters, digits and underscores; `given` ones as they are told.

    Raises UserError where two columns get one name, or one gets a name of the platform's own.
    """
    names = {column: given.get(column) or _name(column) for column in raw}
    for column, name in names.items():
        twins = [other for other, same in names.items() if same == name]
        if len(twins) > 1:
            raise UserError(f"columns {' and '.join(twins)}", f"both {name}", "columns whose letters and digits differ")
        if name in TAKEN and column not in given:
            raise UserError(f"column {column}", name, f"another name; {', '.join(TAKEN)} are the platform's own")
    return names


def _name(raw: str) -> str:
    name = re.sub(r"\W+", "_", raw, flags=re.ASCII).strip("_").lower() or "column"
    return (
        f"{name}_" if keyword.iskeyword(name) or name in ("all", "view") else f"c_{name}" if name[0].isdigit() else name
    )


def kind_of(values: pl.Series, now: datetime) -> Kind:
    """The narrowest kind that every value has, as ingest reads them; true and false are text."""
    import polars as pl

    if values.dtype == pl.Boolean:
        return "text"
    kinds: tuple[Kind, ...] = ("number", "time") if values.dtype.is_float() else ("integer", "number", "time")
    for kind in kinds:
        table = TableContract((Column(values.name, kind, nullable=True),), key=())
        if not conform(values.to_frame(), table, now).violations:
            return kind
    return "text"


def seen(raw: str, name: str, values: pl.Series, now: datetime) -> Seen:
    """One column that is neither label nor time nor key."""
    kind = kind_of(values, now)
    table = TableContract((Column(raw, kind, nullable=True),), key=())
    read = conform(values.to_frame(), table, now).rows[raw].drop_nulls()
    nullable = len(read) < len(values)
    if read.n_unique() < 2:
        return Seen(raw, name, Column(name, kind, nullable=True), why_not="one value only")
    if kind == "time":
        return Seen(raw, name, Column(name, kind, nullable=nullable), why_not="a time; make a feature of it by hand")
    if kind != "text":
        return Seen(raw, name, _number(name, kind, nullable, read))
    if read.n_unique() > min(MOST_VALUES, len(read) / 10):
        return Seen(raw, name, Column(name, kind), why_not=f"text of {read.n_unique()} values")
    column = Column(name, kind, nullable, constant=_top_share(read) > 0.95, guard=Guard(new_values=0.1))
    return Seen(raw, name, column, tuple(sorted(read.unique())))


def _number(name: str, kind: Kind, nullable: bool, read: pl.Series) -> Column:
    """Limits one span beyond what was seen: they catch wrong units and broken feeds, not news."""
    least, most = float(read.min()), float(read.max())  # type: ignore[arg-type]
    span = most - least
    low = 0.0 if least >= 0 else -_beyond(span - least)
    high = _beyond(most + span) if most + span > 0 else 0.0
    if kind == "integer":
        low, high = int(low), int(high)
    rare = _top_share(read) > 0.95
    return Column(name, kind, nullable, low, high, constant=rare, guard=Guard(null_share=0.3, mean_shift=3.0))


def _top_share(read: pl.Series) -> float:
    return float(read.value_counts()["count"].max()) / len(read)  # type: ignore[arg-type]


def _beyond(value: float) -> float:
    """The next number of two digits that is not less."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.3g}")
