"""Parquet files as windows: what the columns of a file of predictions are, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.errors import UserError
from tidegate.monitor.drift import Column, Window

if TYPE_CHECKING:
    import polars as pl

AGAIN = "recomputed_"
LEAST_REFERENCE = 200
"""Rows: with fewer the reference says nothing about anything."""


@dataclass(frozen=True)
class Roles:
    """What the columns of a file are: every column that is named here nowhere is a feature.

    time or group (or neither: rows are independent) says which rows repeat together: those of a UTC day, or those
    with one value of the group.
    """

    label: str
    score: str
    time: str | None = None
    group: str | None = None
    categorical: frozenset[str] = field(default_factory=frozenset)

    @property
    def named(self) -> set[str]:
        """The columns that are no features."""
        return {name for name in (self.label, self.score, self.time, self.group) if name is not None}


def read_reference(path: Path, roles: Roles) -> Window:
    """The rows to compare with; UserError when they are too few, or have no label."""
    window = read_window(path, roles)
    labelled = int((~np.isnan(window.label)).sum())
    if labelled < LEAST_REFERENCE:
        raise UserError(str(path), f"{labelled} labelled rows", f"a reference of at least {LEAST_REFERENCE}")
    return window


def read_window(path: Path, roles: Roles, like: Window | None = None) -> Window:
    """A file's rows; with `like` its features are those of that window, of the same kinds, and no others.

    Raises UserError that names the file and the column.
    """
    frame = _frame(path)
    for name in (*roles.named, *roles.categorical):
        if name not in frame.columns:
            raise UserError(str(path), f"no column {name}", f"a file with that column; it has {_list(frame.columns)}")
    known = set(frame.columns) - roles.named
    again = {name for name in known if name.startswith(AGAIN) and name.removeprefix(AGAIN) in known}
    names = [name for name in frame.columns if name in known - again] if like is None else list(like.features)
    if not names:
        raise UserError(str(path), "no feature", "columns beside label, score, time and group")
    if missing := [name for name in names if name not in known]:
        raise UserError(str(path), f"no column {missing[0]}", "every feature of the reference")
    kinds = {name: _kind(path, frame, name, roles, like) for name in names}
    found = Window(
        {name: _column(path, frame, name, kinds[name]) for name in names},
        _score(path, frame, roles.score),
        _label(path, frame, roles.label),
        _days(path, frame, roles),
        None,
        {name: _column(path, frame, AGAIN + name, kinds[name]) for name in names if AGAIN + name in again},
    )
    return found


def _frame(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        frame = pl.read_parquet(path, use_pyarrow=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:120], "a Parquet file") from None
    if frame.is_empty():
        raise UserError(str(path), "no rows", "a Parquet file with rows")
    return frame


def _list(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _kind(path: Path, frame: pl.DataFrame, name: str, roles: Roles, like: Window | None) -> str:
    if like is not None:
        return "category" if like.features[name].dtype.kind == "O" else "numeric"
    dtype = frame.schema[name]
    if name in roles.categorical or str(dtype) in ("String", "Null") or str(dtype).startswith(("Categorical", "Enum")):
        return "category"
    if dtype.is_numeric() or str(dtype) == "Boolean":
        return "numeric"
    raise UserError(f"{path}, column {name}", str(dtype), "numbers or texts; a time is named by --time")


def _column(path: Path, frame: pl.DataFrame, name: str, kind: str) -> Column:
    import polars as pl

    values = frame[name]
    if kind == "category":
        text = values if values.dtype == pl.String else values.cast(pl.String)
        return np.array(text.to_list(), object)
    return _numbers(path, values)


def _numbers(path: Path, values: pl.Series) -> Column:
    import polars as pl

    if not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
        raise UserError(f"{path}, column {values.name}", str(values.dtype), "numbers")
    found = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isinf(found), np.nan, found)


def _score(path: Path, frame: pl.DataFrame, name: str) -> Column:
    score = _numbers(path, frame[name])
    _refuse(path, name, score, ~np.isnan(score) & ((score < 0) | (score > 1)), "a probability from 0 to 1, or null")
    if np.isnan(score).all():
        raise UserError(f"{path}, column {name}", "nulls only", "a probability from 0 to 1")
    return score


def _label(path: Path, frame: pl.DataFrame, name: str) -> Column:
    label = _numbers(path, frame[name])
    _refuse(path, name, label, ~np.isnan(label) & (label != 0) & (label != 1), "0, 1, or null where it is not known")
    return label


def _refuse(path: Path, name: str, values: Column, wrong: Any, takes: str) -> None:
    if wrong.any():
        raise UserError(f"{path}, column {name}, row {int(wrong.argmax())}", float(values[wrong.argmax()]), takes)


def _days(path: Path, frame: pl.DataFrame, roles: Roles) -> Any:
    """The number of each row's UTC day, or of its group; None where neither is named."""
    import polars as pl

    if roles.group is not None:
        return _group_numbers(frame[roles.group])
    if roles.time is None:
        return None
    times = frame[roles.time]
    if times.dtype == pl.String:
        try:
            times = times.str.to_datetime(time_zone="UTC")
        except pl.exceptions.PolarsError:
            raise UserError(f"{path}, column {roles.time}", times[0], "times, as ISO 8601 or in seconds") from None
    if times.null_count():
        raise UserError(f"{path}, column {roles.time}", f"{times.null_count()} nulls", "a time in every row")
    if times.dtype.is_numeric():
        return np.floor(times.cast(pl.Float64).to_numpy() / 86400.0).astype(np.int64)
    if not times.dtype.is_temporal():
        raise UserError(f"{path}, column {roles.time}", str(times.dtype), "times, as ISO 8601 or in seconds")
    return times.cast(pl.Datetime("us")).dt.epoch("d").cast(pl.Int64).to_numpy()


def _group_numbers(values: pl.Series) -> Any:
    """Groups in the order of their values, so that groups that follow each other are neighbours."""
    return values.rank("dense").fill_null(0).cast(int).to_numpy().astype(np.int64)


def read_windows(folder: Path) -> Mapping[str, Path]:
    """``window_*.parquet`` of a folder by name, in order; UserError when there are none."""
    found = {path.stem: path for path in sorted(folder.glob("window_*.parquet"))} if folder.is_dir() else {}
    if not found:
        raise UserError(str(folder), "no window_000.parquet", "a folder of window_NNN.parquet files")
    return found
