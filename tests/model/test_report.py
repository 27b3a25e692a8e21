"""The report's figures and words; what a real change does to it is seen in tests/workflows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.model import report_page
from tests.model.report import features, metrics
from tidegate.train.model_file import Feature, FeatureSchema

SAME = {"base": 0.4, "head": 0.4, "difference": 0.0, "lower": 0.0, "upper": 0.0}
CURVE = {"base": [[0.1, 0.1, 50], [0.9, 0.8, 50]], "head": [[0.0, 0.0, 50], [0.8, 0.9, 50]]}
ROC = {who: [one[:2] for one in found] for who, found in CURVE.items()}


@pytest.fixture
def told() -> dict:
    table = {"rows_before": 1, "rows_after": 2, "added": ("a",), "removed": (), "changed": ()}
    return {
        "base": "0" * 40, "same": False, "refused": "", "tracked": ["a", "a"], "until": "2013-04-01", "rows": 2,
        "days": 1, "data": {"flights": table}, "schema_changed": False, "architecture_changed": False,
        "features": {"count": 1, "added": [], "removed": [], "retyped": [], "moved": []},
        "metrics": {"log_loss": SAME, "roc_auc": SAME}, "roc": ROC, "calibration": CURVE,
        "cost": {"bytes": {"base": 1.0, "head": None}},
    }  # fmt: skip


def test_a_change_of_the_schema_or_the_architecture_is_a_new_major(told):
    assert "may be a minor" in report_page.sentence(told)
    told["schema_changed"] = True
    assert "The next version will be a new major: the feature schema changed." in report_page.sentence(told)
    told["architecture_changed"] = True
    assert "new major: the feature schema and the architecture changed." in report_page.sentence(told)


@pytest.mark.parametrize(
    ("name", "difference", "word"),
    [("log_loss", 0.1, "worse"), ("log_loss", -0.1, "better"), ("roc_auc", 0.1, "better"), ("roc_auc", -0.1, "worse")],
)
def test_what_is_proved_is_said_with_its_direction(told, name, difference, word):
    assert "No metric moved" in report_page.sentence(told)
    limits = {"lower": difference - 0.01, "upper": difference + 0.01}
    told["metrics"] = {**told["metrics"], name: {**SAME, "difference": difference, **limits}}
    assert f"Proved {word}: {name}." in report_page.sentence(told)


def test_a_report_has_all_parts_and_both_pictures(told):
    text = report_page.markdown(told)
    for part in ("## Data", "## Features", "## Metrics", "## Latency and cost", "1 added"):
        assert part in text
    assert text.count("xychart-beta") == 2
    assert text.count("  line [") == 4
    assert "<svg" not in text
    assert report_page.page(told).count("<svg") == 2


def test_nothing_changed_is_one_sentence():
    told = {"base": "0" * 40, "same": True}
    assert "no model was trained" in report_page.markdown(told)
    assert "no model was trained" in report_page.page(told)


def test_a_line_is_drawn_where_both_models_have_points():
    assert report_page.on_grid([(0.0, 0.0), (1.0, 2.0)], 0.25, 0.75)[:: report_page.GRID - 1] == [0.5, 1.5]


def test_figures_of_two_models_on_the_same_rows():
    rng = np.random.default_rng(0)
    labels, days = rng.integers(0, 2, 700).astype(float), np.repeat(np.arange(7), 100)
    good, bad = np.where(labels == 1, 0.7, 0.3), rng.uniform(0.2, 0.8, 700)
    found = metrics(labels, days, bad, good)
    assert found["log_loss"]["upper"] < 0 < found["roc_auc"]["lower"]
    assert found["log_loss"]["difference"] == pytest.approx(found["log_loss"]["head"] - found["log_loss"]["base"])
    same = metrics(labels, days, good, good)["brier"]
    assert (same["base"], same["difference"], same["lower"], same["upper"]) == (same["head"], 0.0, 0.0, 0.0)


def test_features_that_came_went_or_moved_are_named():
    def schema(*names: str, kind: str = "numeric") -> FeatureSchema:
        return FeatureSchema(tuple(Feature(name, kind, ("x",) if kind == "category" else ()) for name in names))

    before, after = pl.DataFrame({"a": [1.0, 2.0], "b": [1.0, None]}), pl.DataFrame({"a": [1.0, 3.0], "b": [1.0, None]})
    found = features(before, after, schema("a", "b", "old"), schema("a", "b", "new"))
    assert (found["added"], found["removed"], found["retyped"]) == (["new"], ["old"], [])
    assert found["moved"] == [
        {"name": "a", "share": 0.5, "before": 1.5, "after": 2.0, "missing_before": 0.0, "missing": 0.0}
    ]
    assert features(before, after, schema("a"), schema("a", kind="category"))["retyped"] == ["a"]
