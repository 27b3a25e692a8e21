"""Wrong words to `tidegate evaluate freshness`: one line, and nothing done before it."""

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--windows", "90"), "--windows: got '90', takes all or days such as 28d"),
        (
            ("--cadences", "yearly"),
            "--cadences: got 'yearly', takes never, quarterly, monthly, weekly or days such as 14d",
        ),
        (("--since", "spring"), "--since: got 'spring', takes a time in ISO 8601"),
        (("--until", "soon"), "--until: got 'soon', takes a time in ISO 8601"),
    ],
)
def test_a_wrong_word_is_named_with_what_is_allowed(tidegate, tmp_path, words, line):
    told = tidegate("evaluate", "freshness", "tests/models/quick.yaml", "--state", tmp_path / "state", *words)
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith(f"tidegate: {line}")
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "state").exists()


def test_a_model_that_keeps_no_rows_has_nothing_to_play_again(tidegate, tmp_path):
    text = Path("tests/models/quick.yaml").read_text()
    path = tmp_path / "model.yaml"
    path.write_text(text.replace("  release:\n", "  training: {retain: false, replay: 0}\n  release:\n"))
    told = tidegate("evaluate", "freshness", path, "--state", tmp_path / "state")
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith("tidegate: spec.training.retain: got False, takes true to test freshness")
