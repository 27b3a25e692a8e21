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


def entry(family, behind, reason, share=1.0):
    return {
        **{"family": family, "setting": {"trees": 30, "learning_rate": 0.06}, "log_loss": 0.41, "lower": 0.4},
        **{"upper": 0.42, "seconds": 1.25, "size": 4321, "share": share, "reason": reason},
        **{"behind": behind, "behind_lower": behind, "behind_upper": behind},
    }


def test_the_choice_is_a_table_with_the_winner_and_the_reason_of_every_line(unfair):
    table = [entry("lightgbm", 0.0, "chosen: lowest log loss"), entry("logistic_regression", 0.0123, "proved worse")]
    table.append(entry("lightgbm", None, "pruned after 25% of the rows", 0.25))
    choice = {"reason": "lowest log loss of 3 tried", "table": table}
    sections = card("m", unfair, {**TRAINING, "choice": choice})
    rows = [line for line in to_markdown(sections).splitlines() if "learning_rate 0.06" in line]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [one["family"] for one in table]
    for one, row in zip(table, rows, strict=True):
        assert one["reason"] in row
        assert one["reason"] in to_html(sections)
    assert "0.0123" in rows[1]
    assert "Lowest log loss of 3 tried." in to_markdown(sections)


def test_settings_of_a_minor_are_a_table(unfair):
    setting = {"trees": 40, "learning_rate": 0.05, "replay": 0.2}
    trial = {"setting": setting, "log_loss": 0.4, "gain": 0.01, "gain_lower": 0.002, "forgets": 0.001}
    text = to_markdown(card("m", unfair, {**TRAINING, "search": {"reason": "beats the parent", "trials": [trial]}}))
    assert "| 40 | 0.05 | 0.2 | 0.4 | 0.01 | 0.002 | 0.001 |" in text


@pytest.mark.parametrize(("by", "words"), [("terms", "SHAP values of trees"), ("dealt", "no SHAP values")])
def test_the_card_says_what_the_contributions_are(unfair, by, words):
    text = to_markdown(card("m", {**unfair, "curves": {**unfair["curves"], "contributions_by": by}}, TRAINING))
    assert words in text


def test_no_point_of_a_plot_stands_for_fewer_than_twenty_rows():
    rng = np.random.default_rng(4)
    for rows in (25, 90, 399):
        labels, scores = rng.integers(0, 2, rows).astype(float), rng.uniform(size=rows)
        assert min(n for _, _, n in calibration(labels, scores)) >= 20
        x, y = np.array(roc(labels, scores)).T
        between = np.diff(x) * (labels == 0).sum() + np.diff(y) * labels.sum()
        assert len(x) <= max(3, 1 + rows // 20)
        assert (x[-1], y[-1], between.sum()) == (1, 1, pytest.approx(rows))
