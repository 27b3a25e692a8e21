"""The fast point-in-time join against a naive search, row by row; and DuckDB's, which spills, against the fast one."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.asof import AsofView, join, lookup
from tidegate.features.bitemporal import last_at_most
from tidegate.features.opened import opened_view
from tidegate.features.parquet_source import ParquetSource
from tidegate.features.spill import lookup_spilling
from tidegate.features.windows import trailing_sums

START = datetime(2013, 1, 1, tzinfo=UTC)
KEYS = st.sampled_from(["a", "b", None])
HOURS = st.integers(0, 8)
MAYBE = HOURS | st.none()
ZONES = st.sampled_from([None, "UTC", "America/New_York", "Asia/Kolkata"])
UNITS = st.sampled_from(["ms", "us", "ns"])


def at(hours):
    return None if hours is None else START + timedelta(hours=hours)


def times(rows, column, unit, zone):
    """Hours as a column of times in some unit and zone; a naive one is meant as UTC."""
    utc = pl.Series(column, [at(row[column]) for row in rows], dtype=pl.Datetime("us", "UTC")).dt.cast_time_unit(unit)
    return utc.dt.replace_time_zone(None) if zone is None else utc.dt.convert_time_zone(zone)


def naive(entity, rows, keys, ttl, created, known):
    """The value that counts for one entity row, by looking at every row of the view."""
    fits = [
        row
        for row in rows
        if entity["at"] is not None
        and row["at"] is not None
        and row["at"] <= entity["at"]
        and (ttl is None or row["at"] >= entity["at"] - ttl)
        and all(entity[key] is not None and entity[key] == row[key] for key in keys)
        and not (created and known and None not in (row["made"], entity[known]) and row["made"] > entity[known])
    ]
    # The last of the newest: later created wins (never said: first), of equals the one further down.
    made = [-1 if row["made"] is None or not created else row["made"] for row in fits]
    best = max(range(len(fits)), key=lambda i: (fits[i]["at"], made[i], i), default=None)
    return None if best is None else fits[best]["value"]


entity_rows = st.lists(st.fixed_dictionaries({"k": KEYS, "l": KEYS, "at": MAYBE, "seen": MAYBE}), max_size=12)
view_rows = st.lists(
    st.fixed_dictionaries({"k": KEYS, "l": KEYS, "at": MAYBE, "made": MAYBE, "value": st.integers(0, 999) | st.none()}),
    max_size=15,
)
view_cases = st.fixed_dictionaries(
    {
        "rows": view_rows,
        "keys": st.sampled_from([(), ("k",), ("k", "l")]),
        "ttl": st.sampled_from([None, 0, 1, 3]),
        "created": st.booleans(),
        "unit": UNITS,
        "zone": ZONES,
    }
)


def table_of(case):
    keys = pl.DataFrame(case["rows"], schema={"k": pl.String, "l": pl.String, "value": pl.Int64})
    return keys.with_columns(*(times(case["rows"], name, case["unit"], case["zone"]) for name in ("at", "made")))


def view_of(case, name):
    ttl = None if case["ttl"] is None else timedelta(hours=case["ttl"])
    created = "made" if case["created"] else None
    return AsofView(name, case["keys"], ("value",), ttl, "at", created, rename={"value": name})


def entities_of(rows, unit="us", zone="UTC"):
    keys = pl.DataFrame(
        [{**row, "n": n} for n, row in enumerate(rows)], schema={"k": pl.String, "l": pl.String, "n": pl.Int64}
    )
    return keys.with_columns(times(rows, "at", unit, zone), times(rows, "seen", "us", "UTC"))


@settings(max_examples=2000, deadline=None)
@given(entity_rows, st.lists(view_cases, max_size=3), UNITS, ZONES, st.sampled_from([None, "seen", "at"]))
def test_the_join_is_the_naive_search(entities, views, unit, zone, known):
    frame = entities_of(entities, unit, zone)
    named = [(case, f"v{i}") for i, case in enumerate(views)]
    answer = join(frame, [(view_of(case, name), table_of(case)) for case, name in named], "at", known)
    assert answer.columns == ["k", "l", "n", "at", "seen", *(name for _, name in named)]
    assert answer.select(frame.columns).equals(entities_of(entities))
    for case, name in named:
        wanted = [naive(row, case["rows"], case["keys"], case["ttl"], case["created"], known) for row in entities]
        assert answer[name].to_list() == wanted


@settings(max_examples=300, deadline=None)
@given(entity_rows, view_cases, st.integers(1, 4), st.sampled_from([None, "seen", "at"]))
def test_the_join_that_spills_is_the_join_in_memory(tmp_path_factory, entities, case, parts, known):
    folder = tmp_path_factory.mktemp("view")
    table = table_of(case).rename({"value": "in file"})
    for number in range(parts):
        table[number * 15 // parts : (number + 1) * 15 // parts].write_parquet(folder / f"{number}.parquet")
    view, frame = view_of(case, "v"), entities_of(entities)
    opened = opened_view(view, ParquetSource(str(folder), str(folder)), {"in file": "value"})
    spilled = lookup_spilling(frame, opened, 2**27, "at", known)
    assert spilled.equals(lookup(frame, view, table_of(case), "at", known))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_the_last_value_that_is_low_enough(values, data):
    asked = data.draw(st.lists(st.tuples(st.integers(0, len(values) - 1), st.integers(-1, 10)), max_size=10))
    start, limit = (pl.Series([one[i] for one in asked], dtype=pl.Int64).to_numpy() for i in (0, 1))
    wanted = [max((i for i in range(s + 1) if values[i] <= most), default=-1) for s, most in asked]
    assert last_at_most(pl.Series(values).to_numpy(), start, limit).tolist() == wanted


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
