"""Three families behind scikit-learn's estimator API; each export equals its trained model on every edge."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import PlatformError, UserError
from tidegate.train import families
from tidegate.train.boosting import probability
from tidegate.train.estimators import (
    ESTIMATORS,
    HistGradientBoosting,
    LightGBM,
    LogisticRegression,
    contributions,
    restored,
)
from tidegate.train.export import score
from tidegate.train.model_file import Feature, FeatureSchema
from tidegate.train.prepare import CLIP, Preparation, information, prepare, selected

SCHEMA = FeatureSchema(
    (
        Feature("carrier", "category", tuple("ABCDEFGH")),
        Feature("dense", "numeric"),
        Feature("gaps", "numeric"),
        Feature("origin", "category", ("X", "Y", "Z")),
        Feature("noise", "numeric"),
    )
)
QUICK = {
    "lightgbm": {"num_boost_round": 20, "num_leaves": 7, "min_data_in_leaf": 20},
    "hist_gradient_boosting": {"max_iter": 20, "max_leaf_nodes": 7, "min_samples_leaf": 20},
    "logistic_regression": {},
}
PREPARED = [{}, {"select": 0.6}, {"components": 2}, {"select": 0.6, "components": 2}]
fitted = pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name in ESTIMATORS for options in PREPARED], ids=lambda v: str(v)
)


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    encoded = np.column_stack(
        [
            draw.integers(0, 9, n),
            draw.normal(size=n),
            1e4 * draw.normal(size=n),
            draw.integers(0, 4, n),
            draw.normal(size=n),
        ]
    ).astype(np.float32)
    odds = encoded[:, 1] + (encoded[:, 0] == 3) + encoded[:, 2] / 1e4
    encoded[draw.uniform(size=n) < 0.2, 2] = np.nan
    return encoded, (draw.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)


TRAIN, TEST = drawn(3000, 0), drawn(1000, 1)


def made(name, options, rows=TRAIN, seed=7, **changed):
    return ESTIMATORS[name](SCHEMA, seed, **{**QUICK[name], **options, **changed}).fit(*rows)


@fitted
def test_the_export_equals_the_trained_model_on_all_rows_and_edges(name, options):
    model = made(name, options)
    both = np.vstack([TRAIN[0], TEST[0]])
    scores = model.predict_proba(both)[:, 1]
    assert model.check_export(model.onnx(), both, scores) < 2e-6
    assert scores.std() > 0.05
    np.testing.assert_allclose(score(model.onnx(), both[:1]), scores[:1], atol=1e-6)


@pytest.mark.parametrize("name", ["lightgbm", "hist_gradient_boosting"])
def test_edges_are_at_and_beside_every_threshold(name):
    model = made(name, {})
    thresholds = model.thresholds()
    assert len(thresholds) > 60
    assert {column for column, _ in thresholds} <= set(range(5))
    assert all(column in model.prepared.passed for column, _ in made(name, {"components": 2}).thresholds())


def test_rounding_a_threshold_to_nearest_is_found_by_the_check(monkeypatch):
    model = made("hist_gradient_boosting", {})
    monkeypatch.setattr("tidegate.train.export.floor_float32", lambda found: np.asarray(found, np.float32) + 1e-3)
    exported = model.onnx()
    monkeypatch.undo()
    with pytest.raises(PlatformError, match="differs by"):
        model.check_export(exported, TRAIN[0], model.predict_proba(TRAIN[0])[:, 1])


any_row = st.lists(st.floats(width=32, allow_nan=True), min_size=5, max_size=5)


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=25, deadline=None)
@given(st.lists(any_row, min_size=1, max_size=10))
def test_the_export_equals_the_trained_model_on_any_row(name, rows):
    model = MODELS[name]
    encoded = np.array(rows, np.float32)
    np.testing.assert_allclose(score(model.onnx(), encoded), model.predict_proba(encoded)[:, 1], atol=1e-5)


@fitted
def test_same_rows_and_seed_give_the_same_bytes(name, options):
    first, second = made(name, options), made(name, options)
    assert (first.text, first.onnx()) == (second.text, second.onnx())


@pytest.mark.parametrize("name", ["lightgbm", "logistic_regression"])
@pytest.mark.parametrize("options", PREPARED, ids=str)
def test_a_stored_text_scores_as_the_model_did(name, options):
    model = made(name, options)
    again = restored(model.text, SCHEMA)
    np.testing.assert_array_equal(again.log_odds(TEST[0]), model.log_odds(TEST[0]))


def test_an_unseen_category_and_the_unknown_one_are_not_each_other_to_a_linear_model():
    model, rows = MODELS["logistic_regression"], TEST[0][:1].repeat(3, axis=0)
    rows[:, 0] = (0, 9, -1)
    known, *unseen = model.log_odds(rows)
    assert unseen[0] == unseen[1] != known


@pytest.mark.parametrize("name", ESTIMATORS)
def test_scikit_learn_takes_them_as_its_own(name):
    from sklearn.base import clone, is_classifier
    from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
    from sklearn.pipeline import make_pipeline

    model = ESTIMATORS[name](SCHEMA, **QUICK[name])
    assert is_classifier(model)
    assert clone(model).get_params() == model.get_params()
    ahead = TimeSeriesSplit(3)
    alone = cross_val_score(model, *TRAIN, cv=ahead, scoring="neg_log_loss")
    piped = cross_val_score(make_pipeline(model), *TRAIN, cv=ahead, scoring="neg_log_loss")
    assert (alone > -0.66).all()
    np.testing.assert_array_equal(alone, piped)
    found = GridSearchCV(model, {"select": [0.2, 1.0]}, cv=ahead, scoring="neg_log_loss").fit(*TRAIN)
    assert found.best_params_ == {"select": 1.0}


def test_a_linear_child_starts_at_its_parents_coefficients():
    """No step leaves the parent; a full step to the end is where the newer rows lead, wherever it started."""
    parent, newer = MODELS["logistic_regression"], drawn(3000, 5)
    still = LogisticRegression(SCHEMA, learning_rate=0.0).fit(*newer, parent.text)
    np.testing.assert_array_equal(still.log_odds(TEST[0]), parent.log_odds(TEST[0]))
    assert still.prepared == parent.prepared
    half, whole = (LogisticRegression(SCHEMA, learning_rate=r).fit(*newer, parent.text) for r in (0.5, 1.0))
    middle = (parent.log_odds(TEST[0]) + whole.log_odds(TEST[0])) / 2
    np.testing.assert_allclose(half.log_odds(TEST[0]), middle, atol=1e-9)
    few = LogisticRegression(SCHEMA, max_iter=1).fit(*newer, parent.text)
    cold = LogisticRegression(SCHEMA, max_iter=1).fit(*newer)
    near, far = (np.abs(m.log_odds(TEST[0]) - whole.log_odds(TEST[0])).max() for m in (few, cold))
    assert near < far


@pytest.mark.parametrize("name", ["lightgbm", "logistic_regression"])
@pytest.mark.parametrize("options", PREPARED[:3], ids=str)
def test_what_is_compared_before_a_minor_is_what_the_minor_answers(name, options):
    parent, newer = made(name, options), drawn(2000, 5)
    child = ESTIMATORS[name](SCHEMA, **{**QUICK[name], **options, families.family(name).rounds: 5})
    starts = [parent.log_odds(rows) for rows in (newer[0], TEST[0])]
    ahead = child.ahead(*newer, starts[0], TEST[0], starts[1], parent.text)
    np.testing.assert_allclose(child.fit(*newer, parent.text).log_odds(TEST[0]), ahead, atol=1e-9)


def test_hist_gradient_boosting_says_why_it_is_not_trained_on():
    model = MODELS["hist_gradient_boosting"]
    with pytest.raises(UserError, match="its trees are valid on the same data only"):
        HistGradientBoosting(SCHEMA).fit(*TRAIN, model.text)
    with pytest.raises(UserError, match="valid on the same data only"):
        restored(model.text, SCHEMA)


@pytest.mark.parametrize("broken", ["{", '{"family": "forest"}'])
def test_a_broken_text_is_refused(broken):
    with pytest.raises((PlatformError, UserError)):
        restored(broken, SCHEMA)


@pytest.mark.parametrize("name", ["lightgbm", "logistic_regression"])
@pytest.mark.parametrize("options", PREPARED, ids=str)
def test_contributions_are_what_the_log_odds_are_made_of(name, options):
    model = made(name, options)
    names, values = contributions(model.text, SCHEMA, TEST[0])
    assert values.shape == (1000, len(names))
    rest = model.log_odds(TEST[0]) - values.sum(axis=1)
    np.testing.assert_allclose(rest, rest.mean(), atol=1e-9)
    assert {"dense", "component_0"} & {names[k] for k in np.abs(values).mean(axis=0).argsort()[-2:]}


def test_a_model_without_a_text_has_no_contributions():
    assert contributions(MODELS["hist_gradient_boosting"].text, SCHEMA, TEST[0])[0] == ()


def test_selection_keeps_what_tells_about_the_label():
    assert selected(*TRAIN, SCHEMA, 0.6) == (0, 1, 2)
    assert selected(*TRAIN, SCHEMA, 0.01) == (1,)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=60))
def test_information_is_that_of_the_counts(pairs):
    cells, labels = (np.array(side) for side in zip(*pairs, strict=True))
    naive = 0.0
    for cell, label in set(pairs):
        joint = np.mean((cells == cell) & (labels == label))
        naive += joint * np.log(joint / np.mean(cells == cell) / np.mean(labels == label))
    assert information(cells, labels.astype(float)) == pytest.approx(naive, abs=1e-12)


def test_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    encoded, labels = TRAIN
    scaled = prepare(encoded, labels, SCHEMA, 1.0, 0, linear=True).numeric(encoded)
    found = prepare(encoded, labels, SCHEMA, 1.0, 2, linear=True)
    wanted = PCA(2).fit(scaled).components_
    np.testing.assert_allclose(np.abs(np.array(found.components) @ wanted.T), np.eye(2), atol=1e-5)


def test_prepared_rows_read_back_and_are_within_limits():
    found = MODELS["logistic_regression"].prepared
    assert Preparation.parse(found.dump()) == found
    wild = TEST[0][:4].copy()
    wild[:, 1] = (np.inf, -np.inf, np.nan, 3e38)
    np.testing.assert_array_equal(found.numeric(wild)[:, 0], (CLIP, -CLIP, 0, CLIP))
    dense = found.for_linear(TEST[0]).toarray()
    assert set(np.unique(dense[:, 3:])) == {0.0, 1.0}
    assert (dense[:, 3:].sum(axis=1) == 2).all()


def test_probability_is_the_sigmoid():
    np.testing.assert_allclose(probability(np.array([0.0, np.log(3)])), [0.5, 0.75])


def test_a_boosted_child_of_selected_features_keeps_its_parents_selection():
    parent = made("lightgbm", {"select": 0.6})
    child = LightGBM(SCHEMA, **QUICK["lightgbm"], select=0.6).fit(*drawn(2000, 9), parent.text)
    assert child.prepared == parent.prepared
    assert child._trees.count("Tree=") == 2 * parent._trees.count("Tree=")


MODELS = {name: made(name, {}) for name in ESTIMATORS}
