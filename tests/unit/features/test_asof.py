"""What the join promises beside being right: naive times, no feast, inputs untouched."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidegate.errors import UserError
from tidegate.features.asof import AsofView, join

NOON = datetime(2013, 1, 1, 12)


def test_naive_times_are_utc_and_any_precision_is_taken():
    entities = pl.DataFrame(
        {"k": ["a"], "event_timestamp": [NOON]}, schema_overrides={"event_timestamp": pl.Datetime("ms")}
    )
    view = pl.DataFrame(
        {"k": ["a", "a"], "event_timestamp": [NOON, NOON + timedelta(seconds=1)], "x": [1, 2]}
    ).with_columns(pl.col("event_timestamp").cast(pl.Datetime("ns")))
    answer = join(entities, [(AsofView("v", ("k",), ("x",)), view)])
    assert answer["x"].to_list() == [1]
    assert answer["event_timestamp"].to_list() == [NOON.replace(tzinfo=UTC)]


def test_the_keys_of_the_entities_may_have_other_names():
    entities = pl.DataFrame({"airport": ["a"], "event_timestamp": [NOON]})
    table = pl.DataFrame({"k": ["a"], "event_timestamp": [NOON], "x": [1]})
    answer = join(
        entities, [(AsofView("v", ("k",), ("x",), entity_keys={"k": "airport"}, rename={"x": "v__x"}), table)]
    )
    assert answer.columns == ["airport", "event_timestamp", "v__x"]
    assert answer["v__x"].to_list() == [1]


def test_unsorted_tables_and_entities_are_no_trouble():
    later, earlier = NOON + timedelta(hours=2), NOON
    entities = pl.DataFrame({"k": ["a", "a"], "event_timestamp": [later, earlier]})
    table = pl.DataFrame({"k": ["a", "a"], "event_timestamp": [later, earlier], "x": [2, 1]})
    before = table.clone()
    assert join(entities, [(AsofView("v", ("k",), ("x",)), table)])["x"].to_list() == [2, 1]
    assert table.equals(before)


def test_keys_of_another_width_match_where_they_are_equal():
    """pandas makes floats of whole numbers beside a null."""
    times = pl.Series("event_timestamp", [NOON] * 4, dtype=pl.Datetime("us"))
    entities = pl.DataFrame({"k": [1.0, 1.5, None, 3e10]}).with_columns(times)
    table = pl.DataFrame(
        {"k": [1, 2], "event_timestamp": [NOON, NOON], "x": [10, 20]}, schema_overrides={"k": pl.Int32}
    )
    answer = join(entities, [(AsofView("v", ("k",), ("x",)), table)])
    assert answer["x"].to_list() == [10, None, None, None]
    assert answer["k"].to_list() == [1.0, 1.5, None, 3e10]


@pytest.mark.parametrize(("column", "says"), [("k", "type of the view's key"), ("x", "named as no other column")])
def test_what_cannot_be_joined_is_refused_in_words(column, says):
    entities = pl.DataFrame({"k": ["a"], "event_timestamp": [NOON]}).with_columns(pl.lit(1).alias(column))
    table = pl.DataFrame({"k": ["a"], "event_timestamp": [NOON], "x": [1]})
    with pytest.raises(UserError, match=says):
        join(entities, [(AsofView("v", ("k",), ("x",)), table)])


def test_a_row_is_known_from_the_moment_of_its_creation():
    """The newest value was backfilled a day later; who asks then sees it, who asked before sees the one before."""
    day = timedelta(days=1)
    table = pl.DataFrame({"event_timestamp": [NOON - day, NOON], "made": [NOON - day, NOON + day], "x": [1, 2]})
    asked = pl.DataFrame({"event_timestamp": [NOON] * 3, "seen": [NOON, NOON + day, None]}).with_columns(
        pl.col("seen").dt.replace_time_zone("UTC")
    )
    view = AsofView("v", (), ("x",), created="made")
    assert join(asked, [(view, table)], known="seen")["x"].to_list() == [1, 2, 2]
    assert join(asked, [(view, table)])["x"].to_list() == [2, 2, 2]


def test_the_join_does_not_import_feast():
    code = (
        "import sys, tidegate.features.asof, tidegate.features.windows; print({'feast', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
