"""`tidegate monitor join`: the log of a state folder, joined step by step."""

from __future__ import annotations

import json
from pathlib import Path

from tidegate.observations import Label, Prediction, SegmentWriter

MODEL = "tests/models/quick.yaml"
DAY = 86400.0


def write(state: Path, number: int) -> None:
    """One prediction on day `number`, and its label an hour later."""
    at, name = number * DAY, f"q{number}/0"
    for kind, record in (
        ("predictions", Prediction(name, at, at, "v1", "sha256:0", "v1", 0.5, "r1", 0.25, False, 3.0, [1.0])),
        ("labels", Label(name, at + 3600.0, at, 1.0, "observed")),
    ):
        writer = SegmentWriter(state / "observations" / kind, "w", background=False)
        writer.append(record)  # type: ignore[arg-type]
        writer.flush()


def test_each_call_joins_what_is_new_and_says_so(tidegate, tmp_path):
    for number in (1, 9):
        write(tmp_path, number)
    told = json.loads(tidegate("monitor", "join", MODEL, "--state", tmp_path, "--json").out)
    assert (told["folder"], told["predictions"], told["observed"], told["open"]) == (str(tmp_path / "joined"), 2, 1, 1)
    write(tmp_path, 10)
    words = ("monitor", "join", MODEL, "--state", tmp_path, "--until", "1970-02-01T00:00:00Z")
    text = tidegate(*words).out.splitlines()
    assert text[:3] == [f"folder: {tmp_path / 'joined'}", "predictions: 1", "labels: 1"]
    assert {"observed: 2", "open: 0"} < set(text)


def test_wrong_use_is_one_line_and_makes_no_folder(tidegate, tmp_path):
    for words, said in (
        ((), f"--predictions: got '{tmp_path}/observations/predictions', takes a folder of segments"),
        (("--until", "soon"), "--until: got 'soon', takes ISO 8601 with a zone"),
    ):
        told = tidegate("monitor", "join", MODEL, "--state", tmp_path, *words)
        assert (told.status, told.out) == (2, "")
        assert told.err.startswith(f"tidegate: {said}")
        assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_labels_says_what_is_covered_and_after_how_long(tidegate, tmp_path):
    words = ("monitor", "labels", MODEL, "--state", tmp_path)
    assert "tidegate monitor join" in tidegate(*words).err
    for number in range(1, 21):
        write(tmp_path, number)
    tidegate("monitor", "join", MODEL, "--state", tmp_path)
    told = json.loads(tidegate(*words, "--window", "10d", "--json").out)
    assert (told["from"], told["to"]) == ("1970-01-10T00:00:00Z", "1970-01-20T00:00:00Z")
    (whole, tenth) = told["groups"]
    assert (whole["version"], whole["by"], whole["matured"], whole["share"]) == ("v1", "version", 11, 1.0)
    assert (tenth["by"], tenth["value"], tenth["delay_median"]) == ("score", "1", 3600.0)
    assert tidegate(*words).out.splitlines()[1] == "  v1: 19 rows, 100.0% with a label, after 3600 s (95 %: 3600 s)"
    assert tidegate(*words, "--window", "long").err == "tidegate: --window: got 'long', takes a span such as 28d\n"
