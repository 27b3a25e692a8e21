"""Parity: a prediction's features worked out again, offline, as of its time and of what the online store knew. Pure.

A view's value counts when its event time is at or before the prediction's and it had been created by the time until
which the view had been fed; then fallbacks and on-demand features follow as in training. Equal means the same float32
bits; null is equal to null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tidegate.features import asof
from tidegate.features.asof import INSTANT, TIME, AsofView
from tidegate.features.derive import fall_back, fall_back_row, on_demand
from tidegate.features.windows import CREATED

if TYPE_CHECKING:
    from tidegate.observations import Prediction
    from tidegate.workload import Workload

FALLBACK = "fallback"
"""Name under which a level that differs is shown; no feature of a workload."""

_EVENT, _KNOWN = "__event", "__known"


@dataclass(frozen=True)
class Difference:
    """One value that differs: what was `served` and what `offline` says; for `fallback` the level's name."""

    request_id: str
    feature: str
    served: float | str | None
    offline: float | str | None


@dataclass(frozen=True)
class ParityReport:
    """`predictions` were compared, `differing` of them differ somewhere; `differences` names each value."""

    predictions: int
    differing: int
    differences: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differing

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {"ok": self.ok, **asdict(self)}

    def to_text(self) -> str:
        """The values that differ, a line each, and the counts."""
        lines = [f"{d.request_id}  {d.feature}: served {d.served}, offline {d.offline}" for d in self.differences]
        return "\n".join([*lines, f"{self.differing} of {self.predictions} predictions differ"])


def compare(
    predictions: Sequence[Prediction], known: Workload, features: Sequence[str], tables: Mapping[str, pl.DataFrame]
) -> ParityReport:
    """Compare predictions that were asked by key.

    `features`: the names of what each prediction logged, in its order; `tables`: every view's offline rows by name.
    """
    if not predictions:
        return ParityReport(0, 0, ())
    served = served_frame(predictions, features)
    offline = recompute(predictions, served, known, tables)
    found = [*_feature_differences(predictions, served, offline, features)]
    found += [
        Difference(one.request_id, FALLBACK, one.fallback, level)
        for one, level in zip(predictions, offline[FALLBACK], strict=True)
        if one.fallback != level
    ]
    return ParityReport(len(predictions), len({one.request_id for one in found}), tuple(found))


def served_frame(predictions: Sequence[Prediction], features: Sequence[str]) -> pl.DataFrame:
    """The logged features, one column each: text as it is, numbers as Float32."""
    columns = []
    for index, name in enumerate(features):
        values = [one.features[index] for one in predictions]
        text = any(isinstance(value, str) for value in values)
        columns.append(pl.Series(name, values, pl.String if text else pl.Float64))
    return pl.DataFrame(columns).with_columns(pl.col(pl.Float64).cast(pl.Float32))


def recompute(
    predictions: Sequence[Prediction], served: pl.DataFrame, known: Workload, tables: Mapping[str, pl.DataFrame]
) -> pl.DataFrame:
    """What offline says of each prediction: the looked-up, fallen-back and derived columns, the others as served."""
    views = known.view_definitions()
    keys = list(dict.fromkeys(view.entity_keys.get(key, key) for view in views for key in view.keys))
    asked = pl.DataFrame(
        {
            **{key: pl.Series([(one.keys or {}).get(key) for one in predictions], dtype=pl.String) for key in keys},
            TIME: instants([one.time for one in predictions]),
        }
    )
    fed = [instants([(one.known or [])[index] for one in predictions]) for index, _ in enumerate(views)]
    looked = [look_up(asked, view, tables[view.name], until) for view, until in zip(views, fed, strict=True)]
    joined = pl.concat([*looked, _brought(asked, served, looked)], how="horizontal")
    levels = [fall_back_row(row, known.fallbacks) for row in joined.to_dicts()]
    derived = {name for one in known.derived for name in one.outputs}
    again = on_demand(fall_back(joined, known.fallbacks).drop(derived, strict=False), known.derived)
    return again.with_columns(pl.Series(FALLBACK, levels, pl.String))


def look_up(asked: pl.DataFrame, view: AsofView, table: pl.DataFrame, known: pl.Series) -> pl.DataFrame:
    """One view's features for the rows asked, each with what was created by its `known`; null where that is null.

    The online store keeps whole seconds of an event's time, by which a value's age is told; so here.
    """
    wanted = replace(view, created=CREATED, ttl=None, features=(*view.features, _EVENT))
    rows = asked.with_columns(known.alias(_KNOWN))
    typed = rows.with_columns(
        pl.col(view.entity_keys.get(key, key)).cast(table.schema[key], strict=False) for key in view.keys
    )
    event = table.with_columns(pl.col(view.timestamp).alias(_EVENT))
    found = asof.lookup(typed, wanted, event, TIME, _KNOWN)
    counts = known.is_not_null()
    if view.ttl is not None:
        age = asked[TIME] - found[_EVENT].dt.truncate("1s")
        counts &= (age <= view.ttl).fill_null(False)
    return found.select(pl.when(counts).then(pl.col(name)).alias(name) for name in view.outputs)


def instants(seconds: Sequence[float | None]) -> pl.Series:
    """Seconds since the epoch as UTC microseconds."""
    whole = [None if one is None else round(one * 1e6) for one in seconds]
    return pl.Series(whole, dtype=pl.Int64).cast(INSTANT)


def _brought(asked: pl.DataFrame, served: pl.DataFrame, looked: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What the request itself brought: keys and inputs, as served."""
    given = {name for frame in looked for name in frame.columns}
    inputs = served.select(name for name in served.columns if name not in given)
    keys = asked.select(name for name in asked.columns if name not in (*inputs.columns, *given))
    return pl.concat([keys, inputs], how="horizontal")


def _feature_differences(
    predictions: Sequence[Prediction], served: pl.DataFrame, offline: pl.DataFrame, features: Sequence[str]
) -> list[Difference]:
    found = []
    for name in features:
        for index in np.flatnonzero(~same(served[name], offline[name])):
            pair = served[name][int(index)], offline[name][int(index)]
            found.append(Difference(predictions[int(index)].request_id, name, *pair))
    return found


def same(left: pl.Series, right: pl.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where both hold the same: equal texts, the same float32 bits, or both nothing (null or NaN)."""
    if left.dtype == pl.String or right.dtype == pl.String:
        return np.asarray(left.cast(pl.String).eq_missing(right.cast(pl.String)))
    bits = [series.cast(pl.Float32).fill_null(float("nan")).to_numpy() for series in (left, right)]
    nothing = np.isnan(bits[0]) & np.isnan(bits[1])
    return np.asarray(nothing | (bits[0].view(np.uint32) == bits[1].view(np.uint32)))
