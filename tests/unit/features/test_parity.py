"""Parity: what counted at a prediction, held against a reference that looks at every row; what differs is named."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.asof import INSTANT, TIME, AsofView
from tidegate.features.parity import FALLBACK, compare, instants, look_up, same
from tidegate.features.windows import CREATED, Events, Latest
from tidegate.observations import Prediction
from tidegate.workload import Fallback, OnDemand, Workload

START = datetime(2026, 5, 1, tzinfo=UTC)
PLANE = AsofView("plane", ("tailnum",), ("delay",), timedelta(seconds=10))
CARRIER = AsofView("carrier", ("carrier",), ("carrier_delay",))
HALVES = st.integers(0, 40).map(lambda half: START + timedelta(milliseconds=500 * half))
TABLE = {"tailnum": pl.String, TIME: INSTANT, CREATED: INSTANT, "delay": pl.Float32}


def table(rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(rows, TABLE, orient="row")


def reference(rows: list[tuple], tailnum: str | None, at: datetime, known: datetime | None) -> float | None:
    """The value that counted, by looking at every row."""
    if known is None or tailnum is None:
        return None
    seen = [row for row in rows if row[0] == tailnum and row[1] <= at and (row[2] is None or row[2] <= known)]
    if not seen:
        return None
    newest = max(seen, key=lambda row: (row[1], row[2] or datetime.min.replace(tzinfo=UTC)))
    return newest[3] if at - newest[1].replace(microsecond=0) <= timedelta(seconds=10) else None


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), HALVES, st.none() | HALVES, st.none() | st.floats(-9, 9, width=32)),
        max_size=12,
        unique_by=lambda row: row[:3],
    ),
    st.lists(st.tuples(st.none() | st.sampled_from("abc"), HALVES, st.none() | HALVES), min_size=1, max_size=8),
)
@settings(max_examples=300, deadline=None)
def test_what_counted_is_what_a_look_at_every_row_says(rows: list[tuple], asked: list[tuple]) -> None:
    entities = pl.DataFrame([row[:2] for row in asked], {"tailnum": pl.String, TIME: INSTANT}, orient="row")
    known = pl.Series([row[2] for row in asked], dtype=INSTANT)
    found = look_up(entities, PLANE, table(rows), known)["delay"].to_list()
    assert found == [reference(rows, *row) for row in asked]


def workload() -> Workload:
    def definitions() -> Any:
        return tuple(Latest(view, (Events("t", {}),)) for view in (PLANE, CARRIER))

    def unused(*_: Any) -> Any:
        raise AssertionError("not for parity")

    fallback = Fallback("delay", (("plane", "delay"), ("carrier", "carrier_delay")))
    twice = OnDemand(("hour",), ("twice",), lambda hour: {"twice": (2 * hour).astype(np.float32)})
    return Workload(
        "w",
        "id",
        None,
        unused,
        definitions,
        unused,
        (),
        "w",
        fallbacks=(fallback,),
        derived=(twice,),  # type: ignore[arg-type]
    )


NAMES = ("carrier", "hour", "delay", "twice")
TABLES = {
    "plane": table([("a", START, None, 0.1)]),
    "carrier": pl.DataFrame(
        {"carrier": ["UA"], TIME: [START], CREATED: [START], "carrier_delay": [7.5]},
        {"carrier": pl.String, TIME: INSTANT, CREATED: INSTANT, "carrier_delay": pl.Float32},
    ),
}
AT = START.timestamp() + 5
OWN = Prediction(
    "r/0", AT, AT, "v1", "d", None, None, None, 0.5, False, 1.0, ["UA", 3.0, float(np.float32(0.1)), 6.0],
    {"tailnum": "a", "carrier": "UA"}, [AT, AT], None,
)  # fmt: skip


def changed(one: Prediction, **fields: Any) -> Prediction:
    import msgspec

    return msgspec.structs.replace(one, **fields)


def test_what_was_served_right_does_not_differ() -> None:
    fallen = changed(
        OWN,
        request_id="r/1",
        keys={"tailnum": "z", "carrier": "UA"},
        features=["UA", 3.0, 7.5, 6.0],
        fallback="carrier",
    )
    unknown = changed(
        OWN, request_id="r/2", keys={"tailnum": "z", "carrier": "XX"}, features=["XX", None, None, None], known=[AT, AT]
    )
    unread = changed(OWN, request_id="r/3", known=[None, None], features=["UA", 3.0, None, 6.0])
    report = compare([OWN, fallen, unknown, unread], workload(), NAMES, TABLES)
    assert (report.ok, report.predictions, report.differences) == (True, 4, ())
    assert report.to_text() == "0 of 4 predictions differ"


@pytest.mark.parametrize(
    ("fields", "feature", "served", "offline"),
    [
        ({"features": ["UA", 3.0, 0.2, 6.0]}, "delay", float(np.float32(0.2)), float(np.float32(0.1))),
        ({"features": ["UA", 3.0, None, 6.0]}, "delay", None, float(np.float32(0.1))),
        ({"features": ["UA", 3.0, float(np.nextafter(np.float32(0.1), np.float32(1))), 6.0]}, "delay", ..., ...),
        ({"features": ["UA", 3.0, float(np.float32(0.1)), 6.5]}, "twice", 6.5, 6.0),
        ({"fallback": "carrier"}, FALLBACK, "carrier", None),
        ({"known": [AT, AT], "keys": {"tailnum": "z", "carrier": "UA"}}, "delay", ..., 7.5),
    ],
)
def test_a_difference_is_named_whatever_differs(fields: dict, feature: str, served: Any, offline: Any) -> None:
    report = compare([changed(OWN, **fields), OWN], workload(), NAMES, TABLES)
    assert (report.ok, report.predictions, report.differing) == (False, 2, 1)
    first = report.differences[0]
    assert first.feature == feature
    assert served is ... or first.served == served
    assert offline is ... or first.offline == offline
    assert "1 of 2 predictions differ" in report.to_text()


def test_without_predictions_there_is_nothing_to_say() -> None:
    assert compare([], workload(), NAMES, {}).to_text() == "0 of 0 predictions differ"


def test_the_same_is_the_same_bits_and_nothing_is_nothing() -> None:
    left = pl.Series([0.0, None, math.nan, 1.0, None], dtype=pl.Float32)
    right = pl.Series([-0.0, math.nan, None, 1.0, 0.0], dtype=pl.Float32)
    assert same(left, right).tolist() == [False, True, True, True, False]
    assert same(pl.Series(["a", None, "b"]), pl.Series(["a", None, None])).tolist() == [True, True, False]


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_seconds_come_back_as_the_microsecond_they_were(naive: datetime) -> None:
    time = naive.replace(tzinfo=UTC)
    assert instants([time.timestamp(), None]).to_list() == [time, None]
