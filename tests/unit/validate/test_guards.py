"""New rows against the last good version's profile: what is limited, what is not assessed, and through the step."""

import json
from dataclasses import asdict, replace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flights.contract import build
from flights.workload import flight_delay
from tidegate.errors import UserError
from tidegate.ingest.step import ingest
from tidegate.steps import run_step
from tidegate.validate import guards
from tidegate.validate.contract import Column, Contract, Guard, Reference, TableContract
from tidegate.validate.guards import breaches, guard_table
from tidegate.validate.profile import Profile, parse_profile, profile_of, profile_table
from tidegate.validate.step import validate

FLIGHTS = "flights.workload:flight_delay"
WHEN = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", time_zone="UTC", eager=True)
TABLE = TableContract(
    columns=(
        Column("event_time", "time"),
        Column("speed", "number", nullable=True, guard=Guard(null_share=0.2, mean_shift=1.0)),
        Column("kind", "text", nullable=True, guard=Guard(new_values=0.1)),
    ),
    key=("event_time",),
)
values = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(0, 9)), st.sampled_from(["a", "b", "c", None])), min_size=1
)


def frame(rows, since=0):
    """Rows by the hour."""
    speed, kind = zip(*rows, strict=True)
    return pl.DataFrame(
        {"event_time": WHEN[since : since + len(rows)], "speed": speed, "kind": kind},
        schema_overrides={"speed": pl.Float64, "kind": pl.String},
    )


def naive(now, before):
    """The three figures by plain arithmetic."""
    speeds = [[s for s, _ in rows if s is not None] for rows in (now, before)]
    null = [sum(s is None for s, _ in rows) / len(rows) for rows in (now, before)]
    known = {kind for _, kind in before}
    found = {
        "null_share": null[0] - null[1],
        "new_values": sum(k is not None and k not in known for _, k in now) / len(now),
    }
    if speeds[0] and speeds[1]:
        mean = [sum(s) / len(s) for s in speeds]
        variance = sum((s - mean[1]) ** 2 for s in speeds[1]) / max(len(speeds[1]) - 1, 1)
        shift = abs(mean[0] - mean[1])
        found["mean_shift"] = shift / variance**0.5 if variance else (1e9 if shift else 0.0)
    return found  # fmt: skip


@given(values, values)
def test_the_figures_are_those_of_plain_arithmetic(now, before):
    profiles = [profile_table(frame(rows), TABLE) for rows in (now, before)]
    expected = naive(now, before)
    speed, kind = (guards.figures_of(c, *profiles) for c in TABLE.columns[1:])
    assert speed == pytest.approx({k: expected[k] for k in ("null_share", "mean_shift") if k in expected}, rel=1e-6)
    assert kind["new_values"] == pytest.approx(expected["new_values"])


@given(values)
def test_the_same_rows_break_no_guard(rows):
    profile = profile_table(frame(rows), TABLE)
    assert breaches(profile, profile, TABLE) == []


def test_a_breach_is_named_with_the_figure_and_its_limit():
    before = profile_table(frame([(1, "a"), (3, "a")] * 10), TABLE)
    now = profile_table(frame([(9, "a")] * 12 + [(None, "z")] * 8), TABLE)
    found = breaches(now, before, TABLE)
    assert [(v.check, v.column, v.rows) for v in found] == [
        ("null_share", "speed", 20), ("mean_shift", "speed", 20), ("new_values", "kind", 20),
    ]  # fmt: skip
    assert found[0].examples == (0.4, 0.2)
    assert guards.said(found[2]) == "new_values kind: 0.4 of all rows have a value that was not there, at most 0.1"


def test_only_rows_after_the_reference_are_looked_at():
    old, new = frame([(1, "a"), (3, "a")] * 100), frame([(9, "z")] * guards.LEAST, since=200)
    reference = Profile("2020-01-09T07:00:00Z", {"t": profile_table(old, TABLE)})
    found, told = guard_table(pl.concat([old, new]), TABLE, "t", reference)
    assert {v.check for v in found} == {"mean_shift", "new_values"}
    assert told == f"{guards.LEAST} rows after 2020-01-09T07:00:00Z against 200 before"
    assert guard_table(old, TABLE, "t", reference)[0] == []


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (None, "not assessed: no last good version"),
        (Profile("2020-01-02T00:00:00Z", {}), "not assessed: no last good version"),
        (Profile("2030-01-01T00:00:00Z", {"t": profile_table(frame([(1, "a")]), TABLE)}), "not assessed: 0 rows after"),
    ],
)
def test_what_cannot_be_assessed_is_said(reference, told):
    found, said = guard_table(frame([(99, "z")] * 5), TABLE, "t", reference)
    assert found == []
    assert said.startswith(told)


def test_a_profile_is_read_as_it_was_written():
    rows = frame([(1, "a"), (None, "b"), (2, None)])
    profile = profile_of("2020-02-01T00:00:00Z", {"t": rows}, Contract({"t": TABLE}))
    assert parse_profile(profile.dump(), "here") == profile
    figures = {"kind": "number", "nulls": 1, "distinct": 2, "low": 1.0, "high": 2.0, "mean": 1.5, "sd": 0.707106781}
    assert asdict(profile.tables["t"].columns["speed"]) == {**figures, "values": None}
    assert profile.tables["t"].columns["kind"].values == {"b": 1, "a": 1}
    for text in (
        "",
        "[]",
        '{"until": "x"}',
        '{"until": "x", "tables": {"t": {"rows": 1, "columns": {"a": {"b": 1}}}}}',
    ):
        with pytest.raises(UserError, match=r"profile\.json"):
            parse_profile(text, "here")


def test_a_reference_to_a_column_that_is_not_there_is_one_clear_line():
    for table, other in (("u", "speed"), ("t", "height")):
        wrong = replace(TABLE, references=(Reference("kind", table, other),))
        with pytest.raises(UserError, match=r"reference of t\.kind"):
            Contract({"t": wrong})


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taken")
    for until in ("2013-01-15", "2013-01-22"):
        ingest(FLIGHTS, until, folder / until)
    return folder


def test_a_feed_that_went_wrong_after_the_champion_is_refused_by_name(taken, tmp_path):
    state, digest = tmp_path / "state", "sha256:" + "a" * 64
    validate(taken / "2013-01-15", FLIGHTS, tmp_path / "before")
    (state / "profiles").mkdir(parents=True)
    (tmp_path / "before" / "profile.json").rename(state / "profiles" / f"{'a' * 64}.json")

    def run(arrivals, champion, out):
        ins, outs = {"arrivals": str(arrivals)}, {"valid": str(tmp_path / out)}
        verdict = run_step("validate", {"workload": FLIGHTS, "champion": champion}, ins, outs, str(state))
        return verdict, json.loads((tmp_path / out / "report.json").read_text())

    verdict, report = run(taken / "2013-01-22", digest, "good")
    assert (verdict, report["violations"]) == ("passed", [])
    assert "rows after 2013-01-15T00:00:00Z against" in report["guards"]["flights"]
    part = taken / "2013-01-22" / "flights" / "2013-01.parquet"
    new = pl.col("event_time") > pl.lit("2013-01-15").str.to_datetime(time_zone="UTC")
    miles = pl.read_parquet(part)
    part.unlink()  # it may be a link to kept bytes
    wrong = pl.when(new).then((pl.col("distance") * 1.609).cast(pl.Int32)).otherwise("distance")
    miles.with_columns(distance=wrong).write_parquet(part)
    verdict, report = run(taken / "2013-01-22", digest, "wrong")
    assert verdict == "refused"
    assert report["reasons"][0].startswith("flights: mean_shift distance: 0.8")
    assert not (tmp_path / "wrong" / "profile.json").exists()
    assert run(taken / "2013-01-22", "", "unknown")[1]["guards"]["flights"] == "not assessed: no last good version"


def test_no_week_of_the_real_flights_breaks_a_guard():
    until = WHEN[0].replace(year=2013, month=5)
    tables, contract = flight_delay.source.arrivals(until), build()
    for month in (2, 3, 4):
        start = f"2013-{month:02}-01T00:00:00Z"
        at = pl.lit(start).str.to_datetime("%Y-%m-%dT%H:%M:%S%#z")
        before = {name: rows.filter(pl.col("event_time") <= at) for name, rows in tables.items()}
        reference = profile_of(start, before, contract)
        for name, rows in tables.items():
            week = rows.filter(pl.col("event_time") <= at + pl.duration(days=14))
            assert guard_table(week, contract.tables[name], name, reference)[0] == []
