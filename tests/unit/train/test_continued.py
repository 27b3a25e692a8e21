"""A minor's setting: replayed rows that stand for the others, what is forgotten, what Optuna proposes."""

import json

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st

from tidegate.spec import ForgettingSpec
from tidegate.train.estimators import ESTIMATORS
from tidegate.train.families import FAMILIES, LIGHTGBM, Setting, minor_at, minor_space, stateful_settings
from tidegate.train.model_file import Feature, FeatureSchema
from tidegate.train.stateful import compare, training_rows, weights
from tidegate.train.step import train

SCHEMA = FeatureSchema((Feature("a", "numeric"), Feature("b", "numeric")))
SETTINGS = [Setting(10, 0.1, replay) for replay in (0.0, 0.2, 1.0)]
TIMES = np.repeat(np.arange(10) * 86_400.0, 50)


@given(st.integers(1, 400), st.integers(0, 400), st.floats(0.05, 0.95), st.integers(0, 9))
def test_replayed_rows_stand_for_all_earlier_ones(older, newer, replay, seed):
    times = np.r_[np.zeros(older), np.ones(newer)]
    chosen = training_rows(times, np.ones(len(times), bool), 0.0, replay, seed)
    found = weights(times[chosen], 0.0, replay)
    assert found[times[chosen] > 0].tolist() == [1.0] * newer
    assert abs(found[times[chosen] == 0].sum() - older) <= 0.5 / replay + 1e-6


def test_without_a_share_every_row_weighs_the_same():
    for replay, since in ((0.0, 0.0), (1.0, 0.0), (0.2, -np.inf)):
        assert weights(TIMES, since, replay) is None


def drawn(n, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)).astype(np.float32)
    return rows, (rng.uniform(size=n) < 1 / (1 + np.exp(-rows[:, 0]))).astype(float)


def test_a_weight_is_as_good_as_so_many_rows():
    """Of the coefficients, which a solver finds up to its tolerance; a tree counts rows beside weights."""
    rows, labels = drawn(600, 0)
    twice = np.r_[np.arange(600), np.arange(300)]
    kind = ESTIMATORS["logistic_regression"]
    weighed = kind(SCHEMA).fit(rows, labels, None, np.r_[np.full(300, 2.0), np.ones(300)])
    repeated = kind(SCHEMA).fit(rows, labels)
    repeated._fit(repeated.family, repeated.family.defaults, rows[twice], labels[twice], None, goes_on=False)
    np.testing.assert_allclose(weighed.log_odds(rows), repeated.log_odds(rows), atol=1e-3)


@pytest.mark.parametrize("name", ["lightgbm", "logistic_regression"])
def test_what_is_compared_is_what_a_weighted_minor_answers(name):
    (rows, labels), (newer, told), (ahead, _) = drawn(3000, 0), drawn(2000, 1), drawn(500, 2)
    kind, weight = ESTIMATORS[name], np.random.default_rng(3).choice([1.0, 5.0], 2000)
    parent = kind(SCHEMA, **{FAMILIES[name].rounds: 20}).fit(rows, labels)
    child = kind(SCHEMA, **{FAMILIES[name].rounds: 5})
    starts = [parent.log_odds(part) for part in (newer, ahead)]
    compared = child.ahead(newer, told, starts[0], ahead, starts[1], parent.text, weight)
    fitted = child.fit(newer, told, parent.text, weight).log_odds(ahead)
    np.testing.assert_allclose(fitted, compared, atol=1e-9)
    assert np.abs(child.fit(newer, told, parent.text).log_odds(ahead) - fitted).max() > 1e-4


def told(gains, forgets):
    """Losses on the window by setting: the parent's 0.5 less a gain that differs by day, and what is forgotten."""
    daily = 0.0001 * np.arange(10).repeat(50)
    known = dict(zip(SETTINGS, zip(gains, forgets, strict=True), strict=True))
    return lambda setting: (0.5 - known[setting][0] + daily, known[setting][1])


def compared(gains, forgets, most=0.01, pruned=0):
    return compare(SETTINGS, told(gains, forgets), np.full(500, 0.5), TIMES, most, pruned)


def test_a_setting_that_forgets_more_than_the_gate_allows_makes_way_for_the_next():
    found = compared((0.3, 0.2, 0.1), (0.05, 0.001, 0.0))
    assert (found.best, found.pays) == (SETTINGS[1], True)
    assert found.reason.endswith("; 3 settings tried, 0 more pruned, 1 forget too much")
    assert compared((0.3, 0.2, 0.1), (0.05, 0.001, 0.0), most=None).best == SETTINGS[0]
    assert compared((0.3, 0.2, 0.1), (None, None, None)).best == SETTINGS[0]


def test_when_every_setting_forgets_none_pays_and_the_run_says_so():
    found = compared((0.3, 0.2, 0.1), (0.05, 0.04, 0.03))
    assert not found.pays
    assert found.reason.startswith("every stateful setting forgets, the least +0.03000 on the parent's rows, at most")


def test_pruned_trials_share_the_chance_of_a_false_gain():
    few, many = (compared((0.01, 0.01, 0.01), (0, 0, 0), pruned=pruned).trials[0] for pruned in (0, 40))
    assert many.gain_lower < few.gain_lower


@pytest.mark.parametrize("family", [LIGHTGBM, FAMILIES["logistic_regression"]], ids=lambda family: family.name)
def test_the_space_of_a_minor_holds_its_fixed_settings(family):
    space = {one.name: one for one in minor_space(family, 0.2)}
    for setting in stateful_settings(family, 0.2):
        point = {family.rounds: setting.trees, "learning_rate": setting.learning_rate, "replay": setting.replay}
        assert all(space[name].low <= value <= space[name].high for name, value in point.items() if value)
        assert minor_at(family, point) == setting
    assert {one.name for one in minor_space(family, 0.0)} == {family.rounds, "learning_rate"}


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parent")
    features = synthetic.write(synthetic.rows(40), folder / "f.parquet")
    train(features, synthetic.NAME, synthetic.until(40), synthetic.settings(), None, folder / "v1")
    record = json.loads((folder / "v1" / "training.json").read_text())
    return folder / "v1", synthetic.parent_of(record)


def minor(parent, folder, forgetting=None, **training):
    features = synthetic.write(synthetic.rows(70, turn=34), folder / "f.parquet")
    settings = synthetic.settings(training, parent[1], forgetting=forgetting)
    train(features, synthetic.NAME, synthetic.until(70), settings, parent[0], folder / "v1.1")
    return json.loads((folder / "v1.1" / "training.json").read_text())


def test_trials_search_rounds_rate_and_replay_and_the_same_seed_gives_the_same_bytes(parent, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    found, again = (minor(parent, tmp_path / name, search_trials=8) for name in "ab")
    tried = [trial["setting"] for trial in found["search"]["trials"]]
    assert found["digest"] == again["digest"]
    assert (found["mode"], found["seeds"]) == ("stateful", {"train": 7, "search": 7})
    assert len(tried) + found["search"]["pruned"] == 4 + 8
    assert len({setting["replay"] for setting in tried}) > 2
    assert found["search"]["best"] in tried
    losses = [trial["log_loss"] for trial in found["search"]["trials"]]
    assert losses[tried.index(found["search"]["best"])] == min(losses)


def test_without_replay_none_is_searched(parent, tmp_path):
    found = minor(parent, tmp_path, search_trials=4, replay=0.0)
    assert {trial["setting"]["replay"] for trial in found["search"]["trials"]} == {0.0}


def chosen(found):
    return next(trial for trial in found["search"]["trials"] if trial["setting"] == found["search"]["best"])


def test_what_the_gate_lets_be_forgotten_decides_between_settings(parent, tmp_path):
    """The sign of x0 turns and nothing tells when, so that what is learned of the new days is lost on the old ones."""
    free, held = (minor(parent, tmp_path, most and ForgettingSpec(max_loss=most)) for most in (None, 0.01))
    assert chosen(free)["forgets"] > 0.05
    assert (held["mode"], held["search"]["best"]["replay"]) == ("stateful", 0.2)
    assert chosen(held)["forgets"] < 0.01
    none = minor(parent, tmp_path, ForgettingSpec(max_loss=1e-6))
    assert none["mode"] == "stateless"
    assert none["reason"].startswith("every stateful setting forgets")
