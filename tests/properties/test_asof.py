"""The fast point-in-time join against a naive search, row by row."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.asof import AsofView, join
from tidegate.features.windows import trailing_sums

START = datetime(2013, 1, 1, tzinfo=UTC)
KEYS = st.sampled_from(["a", "b", None])
HOURS = st.integers(0, 8)


def at(hours):
    return None if hours is None else START + timedelta(hours=hours)


def times(column, zone="UTC"):
    return pl.Series(column, dtype=pl.Datetime("us", zone))


def naive(entity, rows, keys, ttl):
    """The value that counts for one entity row, by looking at every row of the view."""
    fits = [
        row
        for row in rows
        if row["at"] is not None
        and row["at"] <= entity["at"]
        and (ttl is None or row["at"] >= entity["at"] - ttl)
        and all(entity[key] is not None and entity[key] == row[key] for key in keys)
    ]
    # The last of the newest: later created wins, of equals the one further down.
    best = max(enumerate(fits), key=lambda one: (one[1]["at"], one[1]["made"], one[0]), default=(0, None))[1]
    return None if best is None else best["value"]


entity_rows = st.lists(st.fixed_dictionaries({"k": KEYS, "l": KEYS, "at": HOURS}), max_size=12)
view_rows = st.lists(
    st.fixed_dictionaries(
        {"k": KEYS, "l": KEYS, "at": HOURS | st.none(), "made": st.integers(0, 2), "value": st.integers() | st.none()}
    ),
    max_size=15,
)


@settings(max_examples=200, deadline=None)
@given(
    entity_rows,
    st.lists(
        st.tuples(view_rows, st.sampled_from([(), ("k",), ("k", "l")]), st.sampled_from([None, 0, 1, 3])), max_size=3
    ),
    st.booleans(),
)
def test_the_join_is_the_naive_search(entities, views, created):
    schema = {"k": pl.String, "l": pl.String, "at": pl.Datetime("us", "UTC"), "made": pl.Int64, "value": pl.Object}
    schema = {**schema, "value": pl.Int64}
    bounded = [
        (
            [
                {**row, "value": row["value"] and row["value"] % 1000, "made": row["made"] if created else 0}
                for row in rows
            ],
            keys,
            ttl,
        )
        for rows, keys, ttl in views
    ]
    asked = []
    for i, (rows, keys, ttl) in enumerate(bounded):
        table = pl.DataFrame([{**row, "at": at(row["at"])} for row in rows], schema=schema)
        span = None if ttl is None else timedelta(hours=ttl)
        view = AsofView(f"v{i}", keys, ("value",), span, "at", "made" if created else None, rename={"value": f"v{i}"})
        asked.append((view, table))
    frame = pl.DataFrame(
        [{**row, "at": at(row["at"]), "n": n} for n, row in enumerate(entities)],
        schema={"k": pl.String, "l": pl.String, "at": pl.Datetime("us", "UTC"), "n": pl.Int64},
    )
    answer = join(frame, asked, "at")
    assert answer.columns == ["k", "l", "at", "n", *(f"v{i}" for i in range(len(views)))]
    assert answer.select(frame.columns).equals(frame)
    for i, (rows, keys, ttl) in enumerate(bounded):
        span = None if ttl is None else ttl
        assert answer[f"v{i}"].to_list() == [naive(entity, rows, keys, span) for entity in entities]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 20), st.integers(-5, 5) | st.none()), max_size=25),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 30)), min_size=1, max_size=10),
)
def test_trailing_sums_at_any_instant(events, window, asked):
    table = pl.DataFrame(
        [(key, at(hours), value, 1) for key, hours, value in events],
        schema={"key": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "value": pl.Int32, "one": pl.Int8},
        orient="row",
    )
    sums = trailing_sums(table, ("key",), ("value", "one"), timedelta(hours=window))
    entities = pl.DataFrame(
        [(key, at(hours)) for key, hours in asked],
        schema={"key": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
        orient="row",
    )
    answer = join(entities, [(AsofView("sums", ("key",), ("value", "one")), sums)])
    for (key, now), value, one in zip(asked, answer["value"], answer["one"], strict=True):
        inside = [v for k, hours, v in events if k == key and now - window < hours <= now]
        assert (value or 0, one or 0) == (sum(v or 0 for v in inside), len(inside))
