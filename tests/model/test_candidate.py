"""Model validation: this tree's features and training, on a sample, through the model gate beside the champion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model.short_run import CHAMPION, short_run, training
from tidegate.train.model_file import check


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return short_run(tmp_path_factory.mktemp("candidate"), CHAMPION)


def test_the_champion_is_the_one_that_was_committed():
    check(CHAMPION, training(CHAMPION)["digest"])


def test_the_candidate_passes_the_gate_beside_the_champion(made):
    gate = json.loads((made / "gate.json").read_text())
    assert gate["verdict"] == "passed", gate["reason"]
    assert gate["checks"]["log_loss"]["upper"] <= gate["policy"]["margin"]


def test_a_change_of_features_or_architecture_is_meant(made):
    """Where it is: the next version is a new major, and ``make champion`` makes it the one to compare with."""
    before, now = training(CHAMPION), training(made / "model")
    for what in ("feature_schema_digest", "architecture_digest"):
        assert before[what] == now[what], f"{what} changed: the next version is a new major (make champion)"
