"""The exported model takes the trained model's branches: at, above and below every threshold, missing, unseen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import PlatformError
from tidegate.train import boosting
from tidegate.train.export import check_export, floor_float32, parse_trees, score, to_onnx
from tidegate.train.families import LIGHTGBM, Setting

NAMES = ("code", "dense", "gaps", "tiny")


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    encoded = np.column_stack(
        [draw.integers(0, 9, n), draw.normal(size=n), draw.normal(size=n) * 1e6, draw.normal(size=n) * 1e-20]
    ).astype(np.float32)
    encoded[draw.uniform(size=n) < 0.2, 2] = np.nan
    odds = encoded[:, 1] + (encoded[:, 0] == 3) + np.nan_to_num(encoded[:, 2]) / 1e6 + np.sign(encoded[:, 3])
    return encoded, (draw.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)


def predict(text: str, rows: np.ndarray) -> np.ndarray:
    return boosting.probability(boosting.log_odds(text, rows))


class Text(str):
    """A long text that hypothesis prints in short."""

    def __repr__(self) -> str:
        return "Text"


@pytest.fixture(scope="module")
def text() -> str:
    encoded, labels = drawn(4000, 0)
    return Text(boosting.fit(LIGHTGBM, encoded, labels, NAMES, Setting(40, 0.2), 7))


def edges(text: str, base: np.ndarray) -> np.ndarray:
    """Rows at, one float32 above and one below each threshold, and with each feature missing or extreme."""
    found = []
    for tree in parse_trees(text):
        for feature, threshold in zip(tree.feature, floor_float32(tree.threshold), strict=True):
            for value in (
                threshold,
                np.nextafter(threshold, np.float32(np.inf)),
                np.nextafter(threshold, np.float32(-np.inf)),
            ):
                row = base[len(found) % len(base)].copy()
                row[feature] = value
                found.append(row)
    for feature in range(base.shape[1]):
        for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3.4028235e38, -3.4028235e38, 99.0, -1.0):
            row = base[feature].copy()
            row[feature] = value
            found.append(row)
    return np.array(found, np.float32)


def test_export_equals_the_trained_model_on_every_edge(text):
    rows = edges(text, drawn(500, 1)[0])
    assert len(rows) > 3000
    assert check_export(to_onnx(text, 4), rows, predict(text, rows)) < 2e-6


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(width=32, allow_nan=True), min_size=4, max_size=4), min_size=1, max_size=20))
def test_export_equals_the_trained_model_on_any_row(text, rows):
    encoded = np.array(rows, np.float32)
    np.testing.assert_allclose(score(to_onnx(text, 4), encoded), predict(text, encoded), atol=1e-5)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_rounding_down_keeps_every_float32_on_its_side(thresholds):
    thresholds = np.array(thresholds)
    floor = floor_float32(thresholds)
    assert (floor.astype(float) <= thresholds).all()
    with np.errstate(over="ignore"):
        above = np.nextafter(floor, np.float32(np.inf)).astype(float)
    assert (above > thresholds).all()


def test_rounding_to_nearest_would_send_rows_the_other_way():
    threshold = np.array([np.nextafter(np.float64(np.float32(0.1)), -1)])
    at = np.float32(0.1)
    assert not at <= threshold[0]
    assert threshold.astype(np.float32)[0] == at
    assert floor_float32(threshold)[0] < at


def test_a_number_that_lightgbm_reads_as_zero_is_on_zeros_side():
    """Its split below zero stands at -1e-35, and it reads -1e-35 as 0: the largest float32 <= t alone sends it left."""
    encoded = np.repeat(np.array([[-1.0], [0.0], [1.0]], np.float32), 400, axis=0)
    text = boosting.fit(LIGHTGBM, encoded, (encoded[:, 0] < 0).astype(float), ("a",), Setting(3, 0.1), 7)
    assert "threshold=-1.0000000180025095e-35" in text
    near = np.array([[sign * step * np.float32(1e-35)] for sign in (-1, 1) for step in (0, 0.5, 1, 1.1)], np.float32)
    np.testing.assert_allclose(score(to_onnx(text, 1), near), predict(text, near), atol=1e-6)


def test_a_model_without_a_split_is_exported():
    encoded = np.ones((400, 2), np.float32)
    text = boosting.fit(LIGHTGBM, encoded, np.arange(400) % 4 == 0, ("a", "b"), Setting(3, 0.1), 7)
    np.testing.assert_allclose(score(to_onnx(text, 2), encoded[:3]), predict(text, encoded[:3]), atol=1e-6)


def test_a_differing_export_is_refused(text):
    rows, _ = drawn(50, 2)
    with pytest.raises(PlatformError, match="row 7 differs"):
        check_export(to_onnx(text, 4), rows, predict(text, rows) + (np.arange(50) == 7) * 1e-4)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("objective=binary sigmoid:1", "objective=regression"),
        ("num_cat=0", "num_cat=1"),
        ("is_linear=0", "is_linear=1"),
    ],
)
def test_models_that_are_not_covered_are_refused(text, old, new):
    with pytest.raises(PlatformError, match="export: "):
        to_onnx(text.replace(old, new), 4)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(0, 8), min_size=1), st.integers(0, 100))
def test_a_child_of_any_subset_of_categories_leaves_its_parents_trees_bit_equal(text, codes, seed):
    encoded, labels = drawn(2500, seed)
    kept = np.isin(encoded[:, 0], list(codes))
    child = boosting.fit(LIGHTGBM, encoded[kept], labels[kept], NAMES, Setting(5, 0.1), 8, text)
    before, after = parse_trees(text), parse_trees(child)
    assert len(before) <= len(after) <= len(before) + 5  # fewer where too few rows are left to split
    for old, new in zip(before, after, strict=False):
        for name in ("feature", "threshold", "decision", "left", "right", "leaf"):
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))


def test_new_trees_alone_are_what_a_child_adds(text):
    encoded, labels = drawn(2000, 5)
    setting = Setting(10, 0.05)
    child = boosting.fit(LIGHTGBM, encoded, labels, NAMES, setting, 7, text)
    start = boosting.log_odds(text, encoded)
    added = boosting.new_trees(LIGHTGBM, encoded, labels, start, setting, 7, encoded[:300])
    np.testing.assert_allclose(start[:300] + added, boosting.log_odds(child, encoded[:300]), atol=1e-9)
