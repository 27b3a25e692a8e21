"""Views kept up event by event against the same views worked out from all events at once."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.asof import TIME, AsofView
from tidegate.features.streaming import Newest, Pending, Recent, Views
from tidegate.features.windows import CREATED, Events, Latest, Trailing, build

START = datetime(2013, 1, 1, tzinfo=UTC)
LATENESS = timedelta(minutes=5)
COUNTED = Events("a", {"value": pl.col("value"), "one": pl.lit(1)}, where=pl.col("value").ne_missing(3))
MEAN = pl.when(pl.col("one") > 0).then(pl.col("value") / pl.col("one"))
RELATIVE = {"mean": MEAN, "rest": pl.col("all_value") - pl.col("value"), "n": pl.col("all_one")}


def trailing(name, keys, minutes, of_all=False):
    features = RELATIVE if of_all else {"mean": MEAN, "n": pl.col("one")}
    view = AsofView(name, keys, tuple(features), timedelta(hours=1))
    return Trailing(view, COUNTED, timedelta(minutes=minutes), features, of_all)


DEFINITIONS = (
    Latest(
        AsofView("latest", ("key",), ("last",), timedelta(hours=1)),
        (
            Events("a", {"last": pl.col("value"), "kind": pl.lit(0), "id": pl.col("id")}),
            Events("b", {"last": pl.col("value") * 10, "kind": pl.lit(1), "id": pl.col("id")}),
        ),
        tie=("kind", "id"),
    ),
    Latest(
        AsofView("keyless", (), ("last",), timedelta(hours=1)),
        (Events("b", {"last": pl.col("value"), "id": pl.col("id")}),),
        ("id",),
    ),
    trailing("short", ("key",), 2),
    trailing("long", ("key", "other"), 9),
    trailing("relative", ("key",), 4, of_all=True),
    trailing("everything", (), 3),
)
SCHEMA = {
    "id": pl.Int64,
    "event_time": pl.Datetime("us", "UTC"),
    "key": pl.String,
    "other": pl.String,
    "value": pl.Int64,
}
# An event: its table, minute, delay until it comes (within the lateness), key, other key, value.
events = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "b"]),
        st.integers(0, 14),
        st.integers(-1, 5),
        st.sampled_from(["x", "y", None]),
        st.sampled_from(["p", "q"]),
        st.integers(-4, 4) | st.none(),
    ),
    max_size=25,
)


def minutes(count):
    return START + timedelta(minutes=count)


def table(rows):
    return pl.DataFrame(
        [(number, minutes(at), key, other, value) for number, (_, at, _, key, other, value) in rows],
        schema=SCHEMA,
        orient="row",
    )


def tables(rows):
    return {name: table([row for row in rows if row[1][0] == name]) for name in ("a", "b")}


def batches(happened, cuts):
    """The events in the order in which they come, cut into batches: (time of the batch, events)."""
    coming = sorted(enumerate(happened), key=lambda row: (row[1][1] + row[1][2], row[0]))
    times = sorted({0, 30, *cuts, *(at + delay for _, (_, at, delay, *_) in coming)})
    found = []
    for time in times:
        come = [row for row in coming if row[1][1] + row[1][2] <= time]
        coming = coming[len(come) :]
        found.append((minutes(time), come))
    return found


def final(given, view):
    """Of all rows that were given for a key and an instant the last one."""
    rows = pl.concat(given, how="vertical_relaxed")
    return rows.unique([*view.keys, TIME], keep="last", maintain_order=True).sort(TIME, *view.keys)


@settings(max_examples=50, deadline=None)
@given(events, st.lists(st.integers(0, 30), max_size=6), st.integers(0, 20))
def test_rows_kept_up_are_the_rows_built_from_all_events(happened, ticks, asked):
    views, given_rows, newest = Views(DEFINITIONS, LATENESS), {}, {one.view.name: Newest() for one in DEFINITIONS}
    online = {one.view.name: {} for one in DEFINITIONS}
    stop = minutes(asked)
    for now, come in batches(happened, ticks):
        for name, rows in views.absorb(tables(come), now).items():
            assert rows[TIME].max() <= now
            given_rows.setdefault(name, []).append(rows)
            view = next(one.view for one in DEFINITIONS if one.view.name == name)
            if now <= stop:
                for row in newest[name].of(view.keys, rows).iter_rows(named=True):
                    online[name][tuple(row[key] for key in view.keys)] = row
                last = [row[TIME] for row in online[name].values()]
                assert max(last) <= now
    assert views.late == 0
    whole = tables(list(enumerate(happened)))
    for one in DEFINITIONS:
        wanted = build(one, whole).drop(CREATED)
        if one.view.name in given_rows:
            assert final(given_rows[one.view.name], one.view).equals(wanted.sort(TIME, *one.view.keys))
        else:
            assert wanted.is_empty()


@settings(max_examples=25, deadline=None)
@given(events, st.lists(st.integers(0, 30), max_size=6))
def test_the_newest_row_shown_is_the_newest_row_built(happened, ticks):
    views, newest, online = Views(DEFINITIONS, LATENESS), {}, {}
    for now, come in batches(happened, ticks):
        for name, rows in views.absorb(tables(come), now).items():
            keys = next(one.view.keys for one in DEFINITIONS if one.view.name == name)
            for row in newest.setdefault(name, Newest()).of(keys, rows).iter_rows(named=True):
                online[name, *(row[key] for key in keys)] = row
    whole = tables(list(enumerate(happened)))
    for one in DEFINITIONS:
        wanted = {
            (one.view.name, *(row[key] for key in one.view.keys)): row
            for row in build(one, whole).drop(CREATED).iter_rows(named=True)
        }
        assert {key: row for key, row in online.items() if key[0] == one.view.name} == wanted


@settings(max_examples=25, deadline=None)
@given(events, st.integers(0, 30), st.lists(st.integers(0, 30), max_size=4))
def test_what_was_taken_at_once_goes_on_as_what_was_taken_bit_by_bit(happened, cut, ticks):
    bit_by_bit, at_once = Views(DEFINITIONS, LATENESS), Views(DEFINITIONS, LATENESS)
    coming = batches(happened, [*ticks, cut])
    before = [row for now, come in coming if now <= minutes(cut) for row in come]
    at_once.take(tables(before), minutes(cut))
    for now, come in coming:
        changed = bit_by_bit.absorb(tables(come), now)
        if now > minutes(cut):
            again = at_once.absorb(tables(come), now)
            assert changed.keys() == again.keys()
            assert all(rows.equals(again[name]) for name, rows in changed.items())


def test_an_event_later_than_the_lateness_is_counted_and_changes_nothing():
    views = Views(DEFINITIONS, LATENESS)
    views.absorb(tables([(0, ("a", 9, 0, "x", "p", 1))]), minutes(10))
    assert views.absorb(tables([(1, ("a", 4, 0, "x", "p", 1))]), minutes(10)) == {}
    assert views.late == 1
    assert views.absorb(tables([(2, ("a", 5, 0, "x", "p", 1))]), minutes(10)).keys() >= {"latest", "long"}
    assert views.late == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=5), st.integers(0, 40)), max_size=60))
def test_pending_rows_come_due_once(added):
    pending, waiting = Pending(), []
    for times, now in added:
        pending.add(pl.DataFrame({TIME: [minutes(time) for time in times]}, schema={TIME: SCHEMA["event_time"]}))
        waiting += times
        due = pending.due(minutes(now))
        came = [] if due is None else sorted(due[TIME])
        assert came == sorted(minutes(time) for time in waiting if time <= now)
        waiting = [time for time in waiting if time > now]


def test_recent_rows_are_taken_from_a_time_on_and_forgotten_before_one():
    recent = Recent()
    for begin in (0, 4, 8):
        recent.add(pl.DataFrame({TIME: [minutes(begin + more) for more in range(3)]}))
    assert [frame.height for frame in recent.take_since(minutes(5))] == [2, 3]
    recent.forget(minutes(2))
    assert [frame[TIME].to_list() for frame in recent.take_since(minutes(0))] == [[minutes(2)], [minutes(4)]]
    assert recent.take_since(minutes(0)) == []
