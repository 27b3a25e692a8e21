"""The gate in drawn worlds, a few of each kind; ``python -m benchmarks gate_rates`` counts the rates themselves."""

import pytest

from benchmarks import gate_rates


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1))
def test_a_model_that_is_planted_worse_is_refused_by_its_rule(number):
    assert gate_rates.worse(number).reason == "gate_metric"
    assert f"region={gate_rates.worlds.SLICE}" in gate_rates.worse_slice(number).failed
    assert "fairness false_positive_rate 1-0" in gate_rates.unfair(number).failed


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1))
def test_naive_training_on_forgets_a_season_and_a_replay_keeps_it(number):
    naive, chosen = gate_rates.trained_on(number, (0.0,)), gate_rates.trained_on(number, (0.0, 0.2))
    assert (naive.verdict, naive.reason) == ("refused", "gate_forgetting")
    assert naive.checks["log_loss"].upper < 0
    assert chosen.verdict == "passed"


@pytest.mark.slow
def test_equal_models_and_benign_sequences_pass():
    found = [gate_rates.equal(number) for number in range(5)] + [gate_rates.benign(number) for number in range(1)]
    assert [verdict.failed for verdict in found] == [()] * 6
