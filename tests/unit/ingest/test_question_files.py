"""Files of questions: the same table from CSV and Parquet, known once the label is, each file taken as it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from tidegate.ingest.conform import conform
from tidegate.ingest.question_files import QuestionFiles, Shape
from tidegate.ingest.sources import Unreadable
from tidegate.validate.contract import Column, TableContract

SHAPE = Shape("when", timedelta(hours=6), {"Who is it": "who", "x": "x", "y": "label"}, ("NA",))
TABLE = TableContract(
    (
        *(Column("who", "text"), Column("asked_at", "time"), Column("event_time", "time")),
        *(Column("label", "text", nullable=True), Column("x", "number", nullable=True)),
    ),
    key=("who",),
)
ROWS = pl.DataFrame(
    {
        "Who is it": ["a", "b", "c"],
        "when": ["2025-03-01T10:00:00Z", "2025-03-01 11:00:00", "2025-03-02"],
        "x": ["1.5", "NA", "2"],
        "y": ["no", "yes", "NA"],
        "note": ["left", "out", "here"],
    }
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_row_is_known_when_its_label_is():
    made = conform(SHAPE.of(ROWS), TABLE, NOW)
    assert made.violations == ()
    assert made.rows.to_dicts()[1] == {
        "who": "b",
        "asked_at": datetime(2025, 3, 1, 11, tzinfo=UTC),
        "event_time": datetime(2025, 3, 1, 17, tzinfo=UTC),
        "label": "yes",
        "x": None,
    }
    assert made.rows["label"].to_list() == ["no", "yes", None]


def test_csv_and_parquet_are_the_same_table(tmp_path):
    times = pl.Series([datetime(2025, 3, 1, 10), datetime(2025, 3, 1, 11), datetime(2025, 3, 2)])
    ROWS.write_csv(tmp_path / "a.csv")
    ROWS.with_columns(when=times, x=pl.Series([1.5, float("nan"), 2.0])).write_parquet(tmp_path / "b.parquet")
    first, second = (conform(part.read(), TABLE, NOW).rows for part in QuestionFiles("t", str(tmp_path), SHAPE).parts())
    assert first.equals(second)


def test_a_file_more_is_new_data_and_nothing_is_known_before_its_label(tmp_path):
    ROWS.write_csv(tmp_path / "a.csv")
    source = QuestionFiles("t", str(tmp_path), SHAPE)
    assert source.arrivals(datetime(2025, 3, 1, 16, 30, tzinfo=UTC))["t"]["who"].to_list() == ["a"]
    ROWS.with_columns(pl.col("Who is it") + "2").write_csv(tmp_path / "b.csv")
    assert source.arrivals(NOW)["t"]["who"].to_list() == ["a", "a2", "b", "b2", "c", "c2"]


def test_a_file_without_times_is_put_aside_and_a_time_that_is_none_costs_its_row():
    with pytest.raises(Unreadable, match=r"missing_column\(when\)"):
        SHAPE.of(ROWS.drop("when"))
    made = conform(SHAPE.of(ROWS.with_columns(when=pl.Series(["soon", "2025-03-01", "2025-03-02"]))), TABLE, NOW)
    assert (made.rows.height, made.aside.height) == (2, 1)
