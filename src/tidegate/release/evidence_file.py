"""A file of evidence, read and checked, as columns in the one order of evidence.

Three kinds: split (each request in one arm, with its propensity), pairs (every request in both arms, propensity 1.0
and the same request id) and interleaving (sessions with a credit). Every fault is an error that names the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.errors import UserError
from tidegate.release.file_policy import FilePolicy
from tidegate.release.policy import INTERLEAVE, SHADOW, SPLIT
from tidegate.release.rows import Bools, Floats

Frame = Any
"""A polars DataFrame; polars is imported where it is used."""
STICKY_UNITS = 20


@dataclass(frozen=True)
class EvidenceFile:
    """frame: checked rows in order, `row` their place in the file. kind: place of evidence. weighted: propensities
    (and with more than two arms every arm's weight) are there. unit: as asked or inferred.
    """

    frame: Frame
    kind: str
    weighted: bool
    unit: str

    @property
    def sticky(self) -> bool:
        """Whether one observation a unit counts."""
        return self.unit.startswith("sticky")


def load_evidence(path: str | Path, policy: FilePolicy) -> EvidenceFile:
    """Read a Parquet file of evidence and check every row that is judged.

    Raises UserError for a file that cannot be read, a column that is missing, and a row with a propensity of 0 or
    above 1, an unknown arm, NaN, a loss outside [0, 1] or a credit outside [-1, 1].
    """
    frame = _read(Path(path))
    if {"session", "credit"} <= set(frame.columns):
        return EvidenceFile(_in_order(_checked_credits(path, frame), "session"), INTERLEAVE, True, "session")
    _need(path, frame, ["time", "arm", *_needed(policy)])
    _check_rows(path, frame, policy)
    order = _in_order(frame, "request_id" if "request_id" in frame.columns else "row")
    if "request_id" in order.columns:
        order = order.unique(["request_id", "arm"], keep="first", maintain_order=True)
    kind = SHADOW if _paired(order) else SPLIT
    unit = _unit(order, policy) if kind == SPLIT else "request"
    return EvidenceFile(order, kind, kind == SHADOW or _weighted(path, order, policy), unit)


def _read(path: Path) -> Frame:
    import polars as pl

    if not path.is_file():
        raise UserError(str(path), "no file", "the path of a Parquet file of evidence")
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UserError(str(path), " ".join(str(error).split())[:160], "a readable Parquet file") from None
    if frame.is_empty():
        raise UserError(str(path), "no rows", "at least one row of evidence")
    return _with_seconds(path, frame.with_row_index("row"))


def _with_seconds(path: Path, frame: Frame) -> Frame:
    """The column `time` as float seconds since the epoch."""
    import polars as pl

    _need(path, frame, ["time"])
    kind = frame.schema["time"]
    if kind == pl.String:
        frame = frame.with_columns(pl.col("time").str.to_datetime(time_zone="UTC", strict=False))
        kind = frame.schema["time"]
    if kind.is_temporal():
        frame = frame.with_columns(pl.col("time").cast(pl.Datetime("us")).dt.epoch("us") / 1e6)
    elif not kind.is_numeric():
        raise UserError(f"{path}: column time", str(kind), "times or seconds since the epoch")
    frame = frame.with_columns(pl.col("time").cast(pl.Float64))
    _no_row(path, frame, "time", pl.col("time").is_null() | ~pl.col("time").is_finite(), "a time")
    return frame


def _need(path: str | Path, frame: Frame, columns: list[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise UserError(f"{path}: columns", sorted(set(frame.columns) - {"row"}), f"a column {column}")


def _needed(policy: FilePolicy) -> list[str]:
    rules, column = policy.judge_policy(SPLIT), {"loss": "loss", "errors": "error", "latency": "latency_ms"}
    return [*(column.get(metric.name, metric.name) for metric in rules.metrics), *rules.slices]


def _no_row(path: str | Path, frame: Frame, column: str, fault: Any, takes: str) -> None:
    """Raise for the first row where `fault` holds."""
    bad = frame.filter(fault.fill_null(False))
    if bad.is_empty():
        return
    first = bad.sort("row").row(0, named=True)
    named = next((f", {name} {first[name]}" for name in ("request_id", "session", "unit") if name in first), "")
    raise UserError(f"{path}: row {first['row']} (from 0{named}): {column}", first[column], takes)


def _numbers(path: str | Path, frame: Frame, column: str) -> None:
    import polars as pl

    kind = frame.schema[column]
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise UserError(f"{path}: column {column}", str(kind), "numbers")


def _check_rows(path: str | Path, frame: Frame, policy: FilePolicy) -> None:
    import polars as pl

    known = pl.col("arm").cast(pl.String).is_in(list(policy.arms)).fill_null(False)
    _no_row(path, frame, "arm", ~known, "one of " + ", ".join(policy.arms))
    if "propensity" in frame.columns:
        _numbers(path, frame, "propensity")
        share = pl.col("propensity").cast(pl.Float64)
        fault = share.is_nan() | (share <= 0) | (share > 1)
        _no_row(path, frame, "propensity", fault, "a probability above 0 and up to 1")
    if "loss" in frame.columns:
        _numbers(path, frame, "loss")
        loss = pl.col("loss").cast(pl.Float64)
        _no_row(path, frame, "loss", loss.is_nan() | (loss < 0) | (loss > 1), "a loss in [0, 1], or null")
    for metric in policy.metrics:
        _numbers(path, frame, metric.name)
        value = pl.col(metric.name).cast(pl.Float64)
        fault = value.is_nan() | (value < 0) | (value > metric.bound)
        _no_row(path, frame, metric.name, fault, f"a value in [0, {metric.bound:g}], or null")
    for column in sorted({"error", "latency_ms"} & set(_needed(policy))):
        _numbers(path, frame, column)
        value = pl.col(column).cast(pl.Float64)
        fault = value.is_null() | value.is_nan() | (value < 0) | ((value > 1) if column == "error" else False)
        _no_row(path, frame, column, fault, "0 or 1" if column == "error" else "milliseconds")


def _checked_credits(path: str | Path, frame: Frame) -> Frame:
    import polars as pl

    _numbers(path, frame, "credit")
    credit = pl.col("credit").cast(pl.Float64)
    fault = credit.is_null() | credit.is_nan() | (credit.abs() > 1)
    _no_row(path, frame, "credit", fault, "a credit in [-1, 1]; +1 is the challenger preferred")
    return frame


def _in_order(frame: Frame, then: str) -> Frame:
    time = frame["time"]
    if then == "row" and time.is_sorted():
        return frame
    return frame.sort("time", then, maintain_order=True)


def _paired(frame: Frame) -> bool:
    """Every propensity 1.0, and request ids that tell which rows belong together."""
    columns = set(frame.columns)
    return {"request_id", "propensity"} <= columns and bool((frame["propensity"] == 1.0).fill_null(False).all())


def _weighted(path: str | Path, frame: Frame, policy: FilePolicy) -> bool:
    import polars as pl

    if len(policy.arms) == 2:
        return "propensity" in frame.columns and frame["propensity"].null_count() == 0
    if "weights" not in frame.columns or frame["weights"].null_count():
        return False
    weights = pl.col("weights")
    fault = (
        (weights.list.len() != len(policy.arms))
        | weights.list.eval(pl.element().is_null() | pl.element().is_nan() | (pl.element() <= 0)).list.any()
        | ((weights.list.sum() - 1).abs() > 1e-6)
    )
    _no_row(path, frame, "weights", fault, f"{len(policy.arms)} probabilities above 0 that sum to 1")
    return True


def _unit(frame: Frame, policy: FilePolicy) -> str:
    """The unit of randomisation: as the policy says, else what the whole file looks like."""
    import polars as pl

    if policy.unit or "unit" not in frame.columns:
        return policy.unit or "request (inferred)"
    arm = pl.col("arm").cast(pl.String).cast(pl.Enum(list(policy.arms))).to_physical()
    units = frame.select("unit", arm=arm).group_by("unit")
    units = units.agg(pl.len().alias("n"), pl.min("arm").alias("arm"), pl.max("arm").alias("last"))
    many = units.filter(pl.col("n") >= 2).group_by("arm").len()
    enough = many.height == len(policy.arms) and bool((many["len"] >= STICKY_UNITS).all())
    return "sticky (inferred)" if enough and bool((units["arm"] == units["last"]).all()) else "request (inferred)"


def column(frame: Frame, name: str) -> Floats:
    """A column as floats, null as nan; all nan where it is missing."""
    import polars as pl

    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    return np.asarray(frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def is_first(frame: Frame, *names: str) -> Bools:
    """Whether a row is the first one with its values in these columns."""
    import polars as pl

    return np.asarray(frame.select(pl.struct(*names).is_first_distinct()).to_series().to_numpy(), dtype=np.bool_)
