"""A model gate that stops predicting production is found; one that predicts is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.monitor.agreement import FAILS, HOLDS, LIMIT, agreement


def verdicts(wrong, undecided=None):
    """Releases r1, r2 ...: contradicted where `wrong`, without a verdict where `undecided`."""
    for number, bad in enumerate(wrong, 1):
        answer = "disagreed" if bad else "agreed"
        yield {
            "release": f"r{number}",
            "answer": "undecided" if undecided is not None and undecided[number - 1] else answer,
        }


def naive(wrong) -> float:
    """The Shiryaev-Roberts sum by its definition: the likelihood ratios of a change before each release, added up."""
    ratios = [FAILS / HOLDS if bad else (1 - FAILS) / (1 - HOLDS) for bad in wrong]
    return float(sum(np.prod(ratios[start:]) for start in range(len(ratios))))


@pytest.mark.parametrize("seed", range(20))
def test_the_evidence_is_the_sum_over_every_moment_of_change(seed):
    wrong = np.random.default_rng(seed).random(30) < 0.2
    assert agreement(verdicts(wrong)).evidence == pytest.approx(naive(wrong))


def test_nothing_is_said_before_there_is_a_release():
    assert agreement(()).holds
    assert agreement(()).sentence == "no release has answered the model gate yet"


def test_a_gate_that_predicts_nothing_is_reported_within_ten_releases():
    """Planted: it predicted for 20 releases; from then on production says the opposite nine times in ten."""
    found = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        wrong = [*(draw.random(20) < HOLDS), *(draw.random(10) < 0.9)]
        found += not agreement(verdicts(wrong)).holds
    assert found >= 198


def test_a_gate_that_predicts_raises_few_false_reports():
    """Of 2,000 lives of 20 decided releases the bound allows 5 %; measured are 1.4 %."""
    false = 0
    for seed in range(2000):
        wrong = np.random.default_rng((7, seed)).random(20) < HOLDS
        false += any(not agreement(verdicts(wrong[:n])).holds for n in range(1, 21))
    assert false / 2000 <= 20 / LIMIT


def test_a_release_without_a_verdict_says_nothing_of_the_gate():
    told = agreement(verdicts([True] * 10, [True] * 10))
    assert (told.undecided, told.evidence, told.holds) == (10, 0.0, True)


def test_the_report_names_the_release_and_is_taken_back_when_it_predicts_again():
    wrong = [False] * 5 + [True] * 4
    told = agreement(verdicts(wrong))
    assert told.since in ("r8", "r9")
    assert f"since {told.since} its predictions do not hold" in told.sentence
    assert "5 of 9 releases" in told.sentence
    assert agreement(verdicts(wrong + [False] * 30)).holds
