"""The search: what is tried, what wins, what the table says; and three families end to end."""

import json

import numpy as np
import pytest
import synthetic

from tidegate.evaluate.step import evaluate
from tidegate.train import families
from tidegate.train.families import FAMILIES, HIST_GRADIENT_BOOSTING, LIGHTGBM, LOGISTIC_REGRESSION, configured
from tidegate.train.search import SHARES, Measured, choose
from tidegate.train.step import train

DAYS = np.repeat(np.arange(14), 100)
NAMES = list(FAMILIES)


class Bench:
    """Measures without fitting: the loss is what `loss` says of a point, the same on every row but for its day."""

    def __init__(self, loss):
        self.loss, self.asked = loss, []

    def __call__(self, option, share):
        self.asked.append((option, share))
        daily = 0.01 * np.random.default_rng(0).normal(size=14)[DAYS]
        return Measured(self.loss(families.hints_of(*option), share) + daily, 1.0, 1000)


def tried(bench, trials=12, seed=7, bases=(LIGHTGBM,)):
    return choose([configured(base, {}) for base in bases], bench, DAYS, trials, seed)


def test_the_lowest_loss_wins_and_every_line_has_its_reason():
    found = tried(Bench(lambda point, share: 0.5 + abs(point["learning_rate"] - 0.1)))
    losses = [entry.log_loss for entry in found.table if entry.share == 1]
    assert losses == sorted(losses)
    assert found.option[1].learning_rate == found.table[0].setting["learning_rate"]
    assert found.table[0].reason.startswith(f"chosen: lowest log loss of 13 tried, {13 - len(losses)} of them pruned")
    assert all(entry.reason for entry in found.table)
    assert all(entry.lower < entry.log_loss < entry.upper for entry in found.table)
    assert {entry.reason.split(":")[0] for entry in found.table[1:] if entry.share == 1} <= {
        "proved worse",
        "not proved worse, but not better",
    }


def test_a_trial_behind_the_median_is_not_fitted_on_all_rows():
    bench = Bench(lambda point, share: point["lambda_l2"] / share)
    found = tried(bench, trials=20)
    pruned = [entry for entry in found.table if entry.share < 1]
    assert pruned
    assert all("pruned after" in entry.reason and entry.behind is None for entry in pruned)
    whole = sum(share == 1 for _, share in bench.asked)
    assert whole == 21 - len(pruned)
    assert {share for _, share in bench.asked} == set(SHARES)


def test_the_same_seed_tries_the_same_points_and_another_seed_others():
    runs = [tried(Bench(lambda point, share: point["lambda_l2"]), seed=seed).table for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_trials_are_shared_out_among_the_families_and_each_default_is_tried():
    bench = Bench(lambda point, share: 0.5 + point.get("C", 0.3))
    found = tried(bench, 5, bases=FAMILIES.values())
    counts = {name: sum(entry.family == name for entry in found.table) for name in NAMES}
    assert counts == {"lightgbm": 3, "hist_gradient_boosting": 3, "logistic_regression": 2}
    assert found.option[0].name == "logistic_regression"
    assert "; the best " in found.reason


def test_without_trials_only_the_defaults_are_compared():
    bench = Bench(lambda point, share: point["learning_rate"])
    assert len(tried(bench, 0, bases=(LIGHTGBM, LOGISTIC_REGRESSION)).table) == 2
    assert [share for _, share in bench.asked] == [1.0, 1.0]


@pytest.mark.parametrize("base", FAMILIES.values(), ids=NAMES)
def test_the_space_has_selection_and_components_and_leaves_them_off_half_the_time(base):
    middle = {found.name: (found.low + found.high) / 2 for found in base.space}
    on = families.at(base, {**middle, "select": 0.7, "components": 4})[0].structure
    off = families.at(base, {**middle, "select": 1.2, "components": 1})[0].structure
    assert (on["select"], on["components"]) == (0.7, 4)
    assert not {"select", "components"} & set(off)


def test_hints_read_back():
    for base in FAMILIES.values():
        family, setting = configured(base, {"select": 0.5, base.rounds: 17})
        assert configured(base, families.hints_of(family, setting)) == (family, setting)
        assert setting.trees == 17


def run(folder, frame, day, settings, champion=None):
    features = synthetic.write(frame, folder.with_suffix(".parquet"))
    train(features, synthetic.NAME, synthetic.until(day), settings, champion, folder)
    return json.loads((folder / "training.json").read_text())


def asked(*names, parent=None, **training):
    return synthetic.settings({"families": names, **training}, parent)


def test_three_families_are_searched_and_the_winner_passes_the_gate(tmp_path):
    settings = asked(*NAMES, search_trials=6)
    found, again = (run(tmp_path / name, synthetic.rows(40), 40, settings) for name in ("a", "b"))
    table = found["choice"]["table"]
    assert found["digest"] == again["digest"]
    assert found["seeds"] == {"train": 7, "search": 7}
    assert {entry["family"] for entry in table} == set(NAMES)
    assert len(table) == 9
    assert found["family"] == table[0]["family"]
    assert table[0]["reason"] == f"chosen: {found['choice']['reason']}"
    assert all(entry["size"] > 500 and entry["seconds"] > 0 for entry in table)
    gate = evaluate(
        tmp_path / "a",
        tmp_path / "a.parquet",
        synthetic.NAME,
        synthetic.until(40),
        settings,
        None,
        tmp_path / "gate.json",
    )
    assert gate.verdict == "passed"


@pytest.mark.parametrize("name", NAMES)
def test_a_child_of_a_searched_parent_is_of_its_architecture(name, tmp_path):
    """A later search allows any point of the space, so the parent's structure is no change of the architecture."""
    before = run(tmp_path / "a", synthetic.rows(40), 40, asked(name, search_trials=3))
    parent, frame = synthetic.parent_of(before), synthetic.rows(70, turn=34)
    settings = asked(name, search_trials=3, mode="stateful", parent=parent)
    after = run(tmp_path / "b", frame, 70, settings, tmp_path / "a")
    if name == HIST_GRADIENT_BOOSTING.name:
        assert (after["mode"], after["parent"]) == ("stateless", None)
        assert after["reason"] == "HistGradientBoosting: its trees are valid on the same data only"
    else:
        assert (after["mode"], after["parent"]) == ("stateful", "v1")
        assert after["architecture_digest"] == before["architecture_digest"]


def test_another_family_is_another_architecture(tmp_path):
    before = run(tmp_path / "a", synthetic.rows(40), 40, asked("lightgbm"))
    settings = asked("logistic_regression", parent=synthetic.parent_of(before))
    after = run(tmp_path / "b", synthetic.rows(70), 70, settings, tmp_path / "a")
    assert (after["mode"], after["reason"]) == ("stateless", "the architecture changed since v1")


def test_the_parents_family_is_gone_on_with_where_several_are_asked_for(tmp_path):
    before = run(tmp_path / "a", synthetic.rows(40), 40, asked("logistic_regression"))
    settings = asked(*NAMES, parent=synthetic.parent_of(before))
    after = run(tmp_path / "b", synthetic.rows(70, turn=34), 70, settings, tmp_path / "a")
    assert (after["mode"], after["family"], after["parent"]) == ("stateful", "logistic_regression", "v1")
    assert after["reason"].startswith("beats the parent")


def test_too_few_rows_to_compare_on_take_the_first_family(tmp_path):
    found = run(tmp_path / "a", synthetic.rows(40, per_day=60), 40, asked("logistic_regression", "lightgbm"))
    assert found["family"] == "logistic_regression"
    assert "1000 are needed" in found["choice"]["reason"]
