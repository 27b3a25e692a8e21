"""LightGBM on a Dask cluster of two worker processes, named by its scheduler's address."""

import json
import re

import pytest
import synthetic

from tidegate.errors import UserError
from tidegate.evaluate.step import evaluate
from tidegate.train.step import train


@pytest.fixture(scope="module")
def scheduler():
    import dask.config
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        dask.config.set({"scheduler-address": cluster.scheduler_address}),
    ):
        yield cluster


def run(folder, name, parent=None, champion=None, days=40, **training):
    features = synthetic.write(synthetic.rows(days, per_day=600), folder / f"{name}.parquet")
    settings = synthetic.settings(training, parent)
    train(features, synthetic.NAME, synthetic.until(days), settings, champion, folder / name)
    return json.loads((folder / name / "training.json").read_text())


def gate(folder, candidate, champion, parent):
    files = (folder / candidate, folder / f"{candidate}.parquet", synthetic.NAME, synthetic.until(40))
    found = evaluate(*files, synthetic.settings(parent=parent), folder / champion, folder / "gate.json")
    return found.verdict, found.reason


def test_two_workers_give_the_quality_of_one_process_and_v1_1_is_trained_on_locally(scheduler, tmp_path):
    alone, spread = run(tmp_path, "alone"), run(tmp_path, "spread", engine="dask")
    assert (spread["engine"], spread["rows"]) == ("dask", alone["rows"])
    assert spread["architecture_digest"] == alone["architecture_digest"]
    texts = [(tmp_path / name / "model.txt").read_text() for name in ("alone", "spread")]
    trees, machines = ([re.findall(pattern, text) for text in texts] for pattern in (r"Tree=", r"num_machines: \d"))
    assert len(trees[0]) == len(trees[1]) == 30
    assert machines[0] != machines[1] == ["num_machines: 2"]
    assert gate(tmp_path, "spread", "alone", synthetic.parent_of(alone)) == ("passed", "not_worse")
    assert gate(tmp_path, "alone", "spread", synthetic.parent_of(spread)) == ("passed", "not_worse")
    parent = synthetic.parent_of(spread)
    minor = run(tmp_path, "minor", parent, tmp_path / "spread", days=70, engine="dask", mode="stateful")
    assert (minor["mode"], minor["parent"]) == ("stateful", "v1")


def test_without_a_scheduler_that_answers_the_run_says_so_in_one_line(tmp_path, monkeypatch):
    import dask.config

    with dask.config.set({"scheduler-address": None}), pytest.raises(UserError, match="in DASK_SCHEDULER_ADDRESS"):
        run(tmp_path, "a", engine="dask")
    monkeypatch.setattr("tidegate.train.spread.WAIT", 0.2)
    with dask.config.set({"scheduler-address": "tcp://127.0.0.1:1"}), pytest.raises(UserError, match=r"127\.0\.0\.1:1"):
        run(tmp_path, "b", engine="dask")
