"""The model card: every number of gate.json, plots that parse, the group that is treated unfairly by name."""

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tidegate.evaluate.card import card, to_html, to_markdown
from tidegate.evaluate.curves import calibration, roc
from tidegate.evaluate.gate import Policy, gate
from tidegate.evaluate.measure import Compared, measure
from tidegate.evaluate.metrics import roc_auc
from tidegate.spec import FairnessSpec, GateSpec

TRAINING = {
    "digest": "sha256:ab",
    "family": "lightgbm",
    "params": {"trees": 30},
    "seeds": {"train": 7},
    "train_until": 0.5,
}
SPEC = GateSpec(margin=0.5, slices=("origin",), fairness=FairnessSpec(protected="size", max_gap=0.05))


def record(shift=0.8):
    """gate.json of a candidate whose scores of small carriers are moved by `shift`."""
    rng, n = np.random.default_rng(1), 8000
    days, odds, size = np.sort(rng.integers(0, 14, n)), rng.normal(-1, 1, n), rng.choice(["large", "small"], n)
    labels = (rng.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(float)
    scores = [1 / (1 + np.exp(-odds - by * (size == "small"))) for by in (shift, 0.0)]
    columns = {"size": size, "origin": rng.choice(["E<R", "J|K"], n)}
    rows = Compared(days, labels, scores[0], scores[1], float(labels.mean()), columns=columns)
    found, policy = {"reference_distance": 1e-7, **measure(rows, SPEC)}, Policy("log_loss", 0.5, fairness=0.05)
    curves = {
        "calibration": {"candidate": calibration(labels, scores[0]), "champion": calibration(labels, scores[1])},
        "roc": {"candidate": roc(labels, scores[0])},
        "contributions": [["distance", 0.4], ["hour", 0.1]],
    }
    written = {**asdict(gate(policy, found)), "policy": asdict(policy), "measurements": found, "curves": curves}
    return json.loads(json.dumps(written, allow_nan=False))


@pytest.fixture(scope="module")
def unfair():
    return record()


def test_the_card_names_the_group_that_is_treated_unfairly(unfair):
    assert (unfair["verdict"], unfair["reason"]) == ("refused", "gate_fairness")
    text = to_markdown(card("m", unfair, TRAINING))
    assert "Unfair to group small: its false positive rate moved" in text
    assert "Unfair" not in to_markdown(card("m", record(0.0), TRAINING))


def test_every_check_stands_on_both_forms_with_its_numbers(unfair):
    markdown, page = (form(card("m", unfair, TRAINING)) for form in (to_markdown, to_html))
    for check in unfair["checks"].values():
        for value in check.values():
            assert value is None or f"{value:.6g}" in markdown
            assert value is None or f"{value:.6g}" in page
    for name, value in TRAINING["params"].items():
        assert f"| parameter {name} | {value} |" in markdown


def test_the_plots_are_svg_that_parses_and_the_page_asks_for_nothing(unfair):
    page = to_html(card("m", unfair, TRAINING))
    plots = re.findall(r"<svg.*?</svg>", page)
    assert len(plots) == 4
    assert all(len(ElementTree.fromstring(plot)) > 2 for plot in plots)  # noqa: S314 - made right above
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=", page) == []


def test_names_from_the_data_are_text_in_it(unfair):
    sections = card("<b>m</b>", unfair, TRAINING)
    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, _: tags.append(tag)
    parser.feed(to_html(sections))
    assert "b" not in tags
    assert "e<r" not in {tag.lower() for tag in tags}
    rows = [line for line in to_markdown(sections).splitlines() if "J" in line and line.startswith("| origin")]
    assert rows
    assert all("J\\|K" in row for row in rows)


def test_a_card_without_plots_is_a_card():
    found = record(0.0)
    text = to_markdown(card("m", {**found, "curves": {}}, {}))
    assert "## Checks" in text
    assert "## ROC" not in text


def test_the_roc_curve_holds_the_area():
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 3000).astype(float), rng.normal(size=3000)
    scores += labels
    x, y = np.array(roc(labels, scores)).T
    assert np.trapezoid(y, x) == pytest.approx(roc_auc(labels, scores), abs=2e-3)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


def test_calibration_bins_hold_all_rows():
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 997).astype(float), rng.uniform(size=997)
    found = calibration(labels, scores)
    assert sum(rows for _, _, rows in found) == 997
    assert sum(rate * rows for _, rate, rows in found) == pytest.approx(labels.sum())
