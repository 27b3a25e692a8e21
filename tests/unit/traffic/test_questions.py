"""A workload's rows as questions: those that training will see, in their time, with what became of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from tidegate.errors import UserError
from tidegate.features.asof import AsofView
from tidegate.features.windows import Events, Latest
from tidegate.traffic import questions
from tidegate.traffic.questions import asked, load, share_of
from tidegate.workload import Feature, Workload

START = datetime(2025, 3, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": ["a", "b", "c"],
        "key": ["k", "k", "k"],
        "asked_at": [START + timedelta(hours=h) for h in (0, 2, 5)],
        "event_time": [START + timedelta(hours=h) for h in (1, 4, 6)],
        "x": [1.0, 2.0, None],
        "label": [1.0, 0.0, None],
    }
)
VIEW = Latest(AsofView("last", ("key",), ("last_x",), timedelta(days=1)), (Events("rows", {"last_x": pl.col("x")}),))


def entities(tables, until):
    return tables["rows"].filter(pl.col("event_time") <= until).select(
        *("id", "key", "x"),
        event_timestamp="asked_at",
        label_timestamp="event_time",
        outcome=pl.when(pl.col("label").is_null()).then(pl.lit("cancelled")).otherwise(pl.lit("observed")),
        label=pl.col("label").cast(pl.Float32),
    )  # fmt: skip


small = Workload(
    name="small",
    key="id",
    source=None,
    contract=None,
    definitions=lambda: (VIEW,),
    entities=entities,
    features=(Feature("x", "numeric"), Feature("last_x", "numeric")),
    feature_service="small",
)


def test_features_are_those_known_at_the_question():
    rows = asked(small, {"rows": ROWS}, datetime.max.replace(tzinfo=UTC))
    assert rows["last_x"].to_list() == [None, 1.0, 2.0]


def test_questions_lie_in_their_time_and_bring_their_outcome(monkeypatch):
    monkeypatch.setattr(questions, "load_workload", lambda name: small)
    monkeypatch.setattr(questions, "valid_tables", lambda name: {"rows": ROWS})
    first, second = load("small:small", START + timedelta(hours=1), START + timedelta(hours=6))
    assert (first.key, first.at, first.features) == (
        "b",
        (START + timedelta(hours=2)).timestamp(),
        {"x": 2, "last_x": 1},
    )
    assert (first.value, first.outcome, second.value, second.outcome) == (0.0, "observed", None, "cancelled")
    with pytest.raises(UserError, match=r"none from .* takes a time that the workload has rows of: 2025-03-01"):
        load("small:small", START + timedelta(days=9), START + timedelta(days=10))


def test_the_same_seed_is_the_same_share():
    many = [questions.Question(str(i), i, {}, i, 1.0, "observed") for i in range(1000)]
    assert share_of(many, 0.3, 1) == share_of(many, 0.3, 1) != share_of(many, 0.3, 2)
    assert 250 < len(share_of(many, 0.3, 1)) < 350
    assert share_of(many, 1.0, 1) == many
