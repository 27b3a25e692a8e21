"""Worlds for the diagnosis, with causes planted in them: drawn rows, real flights, real flights by whole days.

A world has a model, fitted on rows of its own, a reference of 6,000 held-out rows, and gives current windows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.monitor.concept import logit, sigmoid
from tidegate.monitor.drift import Window
from tidegate.monitor.learn import table

Floats = NDArray[np.float64]
Rows = dict[str, NDArray[Any]]
FITTED, REFERENCE = 12_000, 6_000
MOST_TILTED = 6


@dataclass(frozen=True, eq=False)
class World:
    """`draw(n, rng)`: rows without drift, more than needed where a cause selects; `relabel(rows, strength, rng)`."""

    name: str
    reference: Window
    draw: Callable[[int, np.random.Generator], Window]
    score: Callable[[Window], Floats]
    group: Callable[[Window], NDArray[np.bool_]]
    """The region of local and undersampled causes, about a fifth of the rows."""
    tilted: tuple[str, ...]
    mixed: tuple[str, str]
    """Category and the level whose share grows."""
    far: tuple[str, ...]
    stale: str
    days: int | None = None


def _fitted(rows: Window) -> Callable[[Window], Floats]:
    """A model of the features: LightGBM, 150 trees of 15 leaves."""
    import lightgbm

    filled = table(rows, rows)
    settings = {"objective": "binary", "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 50}
    quiet = {"verbosity": -1, "num_threads": 1, "seed": 1, "lambda_l2": 5.0}
    data = lightgbm.Dataset(filled.old, rows.label, categorical_feature=list(filled.categories), params={**quiet})
    model = lightgbm.train({**settings, **quiet}, data, num_boost_round=150)

    def score(window: Window) -> Floats:
        return np.asarray(model.predict(table(rows, window).new, num_threads=1), np.float64)

    return score


@functools.lru_cache(maxsize=16)
def synth(seed: int) -> World:
    """8 numeric features, 2 categories, AUC about .75."""
    rng = np.random.default_rng([seed, 1])
    weights = rng.normal(0, 0.5, 8)
    effects, other = rng.normal(0, 0.5, 6), rng.normal(0, 0.4, 4)

    def odds(x: Floats, a: NDArray[Any], b: NDArray[Any]) -> Floats:
        return np.asarray(
            -0.8 + x @ weights + 0.6 * np.tanh(x[:, 0] * x[:, 1]) + 0.4 * (x[:, 2] > 0.5) + effects[a] + other[b]
        )

    def draw(n: int, rng: np.random.Generator) -> Window:
        x = rng.normal(size=(n, 8))
        x[:, 3] = 0.6 * x[:, 2] + 0.8 * x[:, 3]
        x[:, 7] = np.exp(0.7 * x[:, 7])
        a = rng.choice(6, n, p=[0.3, 0.22, 0.18, 0.14, 0.1, 0.06])
        b = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
        label = (rng.random(n) < sigmoid(odds(x, a, b))).astype(float)
        features: Rows = {f"x{i}": x[:, i].copy() for i in range(8)}
        features["x5"][rng.random(n) < 0.05] = np.nan
        features["a"] = np.array([f"a{i}" for i in range(6)], object)[a]
        features["b"] = np.array([f"b{i}" for i in range(4)], object)[b]
        return Window(features, np.full(n, np.nan), label)

    return _made(
        "synth",
        draw,
        rng,
        lambda w: np.asarray((w.features["x0"] > 0.3) & (w.features["x4"] > -0.2)),
        ("x0", "x1", "x2", "x3", "x4", "x6"),
        ("a", "a2"),
        ("x1", "x4"),
        "x2",
    )


def _made(
    name: str,
    draw: Any,
    rng: np.random.Generator,
    group: Any,
    tilted: Any,
    mixed: Any,
    far: Any,
    stale: str,
    reference: Window | None = None,
    fitted: Window | None = None,
    days: int | None = None,
) -> World:
    score = _fitted(draw(FITTED, rng) if fitted is None else fitted)

    def scored(n: int, rng: np.random.Generator) -> Window:
        window = draw(n, rng)
        return replace(window, score=score(window))

    held = draw(REFERENCE, rng) if reference is None else reference
    held = replace(held, score=score(held))
    return World(name, held, scored, score, group, tilted, mixed, far, stale, days)


NUMBERS = (
    "hour",
    "minute",
    "weekday",
    "distance",
    "busy",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
)
TEXTS = ("carrier", "origin", "dest")


@functools.lru_cache(maxsize=1)
def _year() -> tuple[Rows, Floats, NDArray[np.int64]]:
    """Landed flights of 2013: features, minutes late, day."""
    import polars as pl

    from flights import source

    tables = source.FlightSource().arrivals(datetime(2014, 2, 1, tzinfo=UTC))
    flights = tables["flights"].filter(pl.col("outcome") == "landed").sort("scheduled_departure", "flight_id")
    hour = pl.col("scheduled_departure").dt.truncate("1h")
    local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York")
    rows = flights.with_columns(
        at=hour, hour=local.dt.hour(), minute=local.dt.minute(), weekday=local.dt.weekday(), day=local.dt.ordinal_day()
    ).with_columns(busy=pl.len().over("origin", "at"))
    weather = tables["weather"].unique(["origin", "event_time"]).rename({"event_time": "at"})
    rows = rows.join(weather, on=["origin", "at"], how="left", maintain_order="left")
    features: Rows = {n: rows[n].cast(pl.Float64).fill_null(float("nan")).to_numpy() for n in NUMBERS}
    features |= {n: np.array(rows[n].to_list(), object) for n in TEXTS}
    return features, rows["arr_delay"].cast(pl.Float64).to_numpy(), rows["day"].cast(pl.Int64).to_numpy()


LATE = 15.0


def _window(at: NDArray[np.int64], by_day: bool) -> Window:
    features, late, day = _year()
    return Window(
        {**{n: c[at] for n, c in features.items()}, LATENESS: late[at]},
        np.full(len(at), np.nan),
        (late[at] > LATE).astype(float),
        day[at] if by_day else None,
    )


LATENESS = "minutes_late"
"""Carried beside the features until a cause has made labels of it."""


def bare(window: Window) -> Window:
    """Without what only the world knows."""
    return replace(window, features={n: c for n, c in window.features.items() if n != LATENESS})


@functools.lru_cache(maxsize=16)
def flights(seed: int) -> World:
    """Rows of the year drawn independently; current ones are none of the model's and none of the reference's."""
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(len(_year()[1]))
    fit, held, rest = order[:FITTED], order[FITTED : FITTED + REFERENCE], order[FITTED + REFERENCE :]

    def draw(n: int, rng: np.random.Generator) -> Window:
        return _window(rng.choice(rest, n, replace=False), False)

    return _of_flights("flights", draw, rng, fit, held, None)


@functools.lru_cache(maxsize=32)
def flights_days(seed: int, days: int = 21) -> World:
    """Windows of whole days, drawn without order, so that there is no drift; 60 days of reference, 120 of the model."""
    rng = np.random.default_rng([seed, 3])
    day = _year()[2]
    order = rng.permutation(np.unique(day))
    place = np.empty(order.max() + 1, np.int64)
    place[order] = np.arange(len(order))
    fit = rng.choice(np.flatnonzero(place[day] >= len(order) - 120), FITTED, replace=False)
    held = rng.choice(np.flatnonzero(place[day] < 60), REFERENCE, replace=False)
    left = order[60:-120]

    def draw(n: int, rng: np.random.Generator) -> Window:
        rows = np.flatnonzero(np.isin(day, rng.choice(left, days, replace=False)))
        return _window(rng.choice(rows, min(n, len(rows)), replace=False), True)

    return _of_flights("flights_days", draw, rng, fit, held, days)


def _of_flights(name: str, draw: Any, rng: Any, fit: Any, held: Any, days: int | None) -> World:
    by_day = days is not None
    made = _made(
        name,
        lambda n, r: bare(draw(n, r)),
        rng,
        lambda w: np.asarray((w.features["hour"] >= 16) & (w.features["distance"] < 1000)),
        ("hour", "distance", "busy", "wind_speed", "humid", "temp"),
        ("carrier", "DL"),
        ("distance", "busy"),
        "busy",
        bare(_window(held, by_day)),
        bare(_window(fit, by_day)),
        days,
    )
    score = made.score

    def scored(n: int, rng: np.random.Generator) -> Window:
        window = draw(n, rng)
        return replace(window, score=score(bare(window)))

    return replace(made, draw=scored)


Cause = Callable[[World, int, bool, np.random.Generator], Window]
"""World, rows, clear (else subtle), draw -> a current window."""


def none(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Nothing."""
    return world.draw(n, rng)


def mcar(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Harmless: 40 % of the labels lost at random, features in single precision, a tilt of .03 sd."""
    window = _resampled(world, n, rng, lambda w: np.exp(0.03 * _scaled(world, w, world.tilted[0])))
    features = {k: c if c.dtype.kind == "O" else c.astype(np.float32) for k, c in window.features.items()}
    return replace(window, features=features, label=np.where(rng.random(n) < 0.6, window.label, np.nan))


def _served(world: World, window: Window, wrong: dict[str, NDArray[Any]]) -> Window:
    """A model that was given wrong features; beside them the recomputed ones."""
    served = replace(window, features={**window.features, **wrong})
    return replace(served, score=world.score(bare(served)), recomputed=bare(window).features)


def stale(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Skew: a feature of another row in 5 % (25 %) of the rows."""
    window = world.draw(n, rng)
    column = window.features[world.stale]
    at = rng.random(n) < (0.25 if clear else 0.05)
    return _served(world, window, {world.stale: np.where(at, rng.permutation(column), column)})


def unit(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Skew: a feature in another unit in 5 % (all) of the rows."""
    window = world.draw(n, rng)
    column = window.features[world.stale]
    return _served(world, window, {world.stale: np.where(rng.random(n) < (1 if clear else 0.05), column * 1.6, column)})


def null(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Skew: nulls served in 3 % (30 %) of the rows."""
    window = world.draw(n, rng)
    column = window.features[world.stale]
    return _served(world, window, {world.stale: np.where(rng.random(n) < (0.3 if clear else 0.03), np.nan, column)})


def selective(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Labels of 90 % above the median score and of 55 % (10 %) below."""
    window = world.draw(n, rng)
    high = window.score > np.median(world.reference.score)
    known = rng.random(n) < np.where(high, 0.9, 0.1 if clear else 0.55)
    return replace(window, label=np.where(known, window.label, np.nan))


def category(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Domain: a category never seen in 6 % (20 %) of the rows."""
    window, name = world.draw(n, rng), world.mixed[0]
    new = np.where(rng.random(n) < (0.2 if clear else 0.06), "new", window.features[name])
    return _with(world, window, {name: new.astype(object)})


def far(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Domain: numbers six widths away in 6 % (20 %) of the rows."""
    window = world.draw(n, rng)
    at = rng.random(n) < (0.2 if clear else 0.06)
    moved = {
        name: np.where(at, window.features[name] + 6 * np.nanstd(world.reference.features[name]), window.features[name])
        for name in world.far
    }
    return _with(world, window, moved)


def _with(world: World, window: Window, features: Rows) -> Window:
    changed = replace(window, features={**window.features, **features})
    return replace(changed, score=world.score(bare(changed)))


def level(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Concept: log odds of every row + .3 (+ 1); flights: late is more than 25 (45) minutes."""
    window = world.draw(n, rng)
    if LATENESS in window.features:
        return replace(window, label=(window.features[LATENESS] > (45 if clear else 25)).astype(float))
    return _raised(window, np.full(n, 1.0 if clear else 0.3), rng)


def local(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Concept: log odds + .9 (+ 2) in a fifth of the rows."""
    window = world.draw(n, rng)
    return _raised(window, np.where(world.group(window), 2.0 if clear else 0.9, 0.0), rng)


def _raised(window: Window, by: Floats, rng: np.random.Generator) -> Window:
    """Labels of rows whose log odds are higher by so much: a 0 becomes a 1 with the probability that this takes."""
    before = window.score
    after = sigmoid(logit(before) + by)
    turned = rng.random(len(window)) < np.clip((after - before) / (1 - before), 0, 1)
    return replace(window, label=np.where(turned, 1.0, window.label))


def tilt(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Data: three features by .3 sd (six by .5 sd)."""
    names, by = (world.tilted, 0.5) if clear else (world.tilted[:3], 0.3)
    return _resampled(world, n, rng, lambda w: np.exp(sum(by * _scaled(world, w, name) for name in names)))


def mix(world: World, n: int, clear: bool, rng: np.random.Generator) -> Window:
    """Data: the odds of a category times 1.8 (times 5)."""
    name, level = world.mixed
    return _resampled(world, n, rng, lambda w: np.where(w.features[name] == level, 5.0 if clear else 1.8, 1.0))


def _scaled(world: World, window: Window, name: str) -> Floats:
    known = world.reference.features[name]
    found = (window.features[name] - np.nanmean(known)) / np.nanstd(known)
    return np.asarray(np.clip(np.nan_to_num(found), -2.5, 2.5))


def _resampled(world: World, n: int, rng: np.random.Generator, weight: Callable[[Window], Floats]) -> Window:
    """Rows kept with a probability that follows their weight: no row comes twice."""
    window = world.draw(n * MOST_TILTED, rng)
    while True:
        weights = weight(window)
        kept = np.flatnonzero(rng.random(len(window)) < weights / np.quantile(weights, 0.98))
        if len(kept) >= n or world.days is not None:
            return window.take(rng.permutation(kept)[:n])
        more = world.draw(n * MOST_TILTED, rng)
        window = Window(
            {k: np.concatenate([c, more.features[k]]) for k, c in window.features.items()},
            np.concatenate([window.score, more.score]),
            np.concatenate([window.label, more.label]),
        )


def undersampled(world: World, n: int, clear: bool, rng: np.random.Generator) -> tuple[Window, Window]:
    """Domain: a group that is .5 % of the reference is 10 % (20 %) of the current rows; gives both windows."""
    seen = world.reference
    at = world.group(seen)
    few = np.flatnonzero(at)[: len(seen) // 200]
    reference = seen.take(np.sort(np.concatenate([np.flatnonzero(~at), few])))
    share = 0.2 if clear else 0.1
    window = world.draw(n * MOST_TILTED, rng)
    inside, outside = (rng.permutation(np.flatnonzero(world.group(window) == yes)) for yes in (True, False))
    count = int(n * share)
    return reference, window.take(np.concatenate([inside[:count], outside[: n - count]]))


CAUSES: dict[str, tuple[str, Cause]] = {
    "stale": ("skew", stale),
    "unit": ("skew", unit),
    "null": ("skew", null),
    "selective": ("selective_labels", selective),
    "category": ("domain_shift", category),
    "far": ("domain_shift", far),
    "level": ("concept_drift", level),
    "local": ("concept_drift", local),
    "tilt": ("data_drift", tilt),
    "mix": ("data_drift", mix),
}
"""Name: kind, how it is planted. `undersampled` (domain_shift) is apart: it needs a reference of its own."""
UNDERSAMPLED = "undersampled"
