"""What the join promises beside being right: naive times, no feast, inputs untouched."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl

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


def test_the_join_does_not_import_feast():
    code = (
        "import sys, tidegate.features.asof, tidegate.features.windows; print({'feast', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
