"""Batch = online: the same rows through the real service and the real batch; then the log of it scored again."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from outputs import read, ready

from tests.batch_flights import drawn
from tidegate.cli import main
from tidegate.observations import each_score
from tidegate.targets.processes import free_port
from tidegate.train.model_file import folder_name

ROWS, REQUEST = 10_000, 500
MODEL = "tests/models/quick.yaml"


@pytest.fixture(scope="module")
def served(trees, tmp_path_factory) -> tuple[Path, Path, dict[str, float]]:
    """(state folder with a log, file of the rows, score by flight as answered over HTTP)."""
    template, digest = trees
    folder = tmp_path_factory.mktemp("online")
    state = Path(shutil.copytree(template, folder / "state"))
    frame, port = drawn(ROWS, 7), free_port()
    frame.write_parquet(folder / "rows.parquet")
    words = ("--model-dir", state / "models" / folder_name(digest), "--name", "quick", "--version", "v1")
    log = ("--observations", state / "observations" / "predictions", "--port", port)
    process = subprocess.Popen([sys.executable, "-m", "tidegate.serve.service", *map(str, (*words, *log))])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            ready(client)
            scores = [
                row["score"]
                for part in frame.drop("flight_id").iter_slices(REQUEST)
                for row in client.post("/predict", json={"rows": part.to_dicts()}).json()["rows"]
            ]
    finally:
        process.terminate()
        assert process.wait(60) == 0
    return state, folder / "rows.parquet", dict(zip(frame["flight_id"], scores, strict=True))


def tidegate(monkeypatch, capsys, *words: object) -> tuple[int, dict]:
    monkeypatch.setattr(sys, "argv", ["tidegate", *map(str, words), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0), json.loads(capsys.readouterr().out or "null")


def test_ten_thousand_rows_have_the_same_bits_by_batch_and_online(served, tmp_path, monkeypatch, capsys):
    state, rows, scores = served
    words = ("serve", "batch", MODEL, "--input", rows, "--output", tmp_path / "out", "--state", state)
    status, told = tidegate(monkeypatch, capsys, *words)
    assert (status, told["rows"], told["scored"], told["model"]) == (0, ROWS, ROWS, "quick@v1")
    found = read(str(tmp_path / "out"))
    assert dict(zip(found["flight_id"], found["score"], strict=True)) == scores
    assert len(set(scores.values())) > ROWS / 4


def test_a_sample_of_the_log_scores_the_same_again(served, monkeypatch, capsys):
    status, told = tidegate(monkeypatch, capsys, "serve", "parity", MODEL, "--state", served[0])
    assert (status, told["rows"], told["equal"], told["differing"]) == (0, ROWS, ROWS, 0)


def test_a_logged_score_that_the_model_does_not_give_is_counted_and_the_status_is_1(
    served, tmp_path, monkeypatch, capsys
):
    state = Path(shutil.copytree(served[0], tmp_path / "state"))
    (segment,) = (state / "observations" / "predictions").glob("*.jsonl")
    lines = segment.read_text().splitlines(keepends=True)
    place = next(i for i, line in enumerate(lines) if '"scores"' in line)
    answer = json.loads(lines[place])
    first, *others = each_score(base64.b64decode(answer["scores"]))
    answer["scores"] = [first + 2e-6, *others]
    lines[place] = json.dumps(answer) + "\n"
    segment.write_text("".join(lines))
    status, told = tidegate(monkeypatch, capsys, "serve", "parity", MODEL, "--state", state)
    assert (status, told["ok"], told["differing"], told["equal"]) == (1, False, 1, ROWS - 1)


def test_a_batch_that_was_stopped_goes_on_at_its_own_time(served, tmp_path, monkeypatch, capsys):
    state, rows, scores = served
    (tmp_path / "in").mkdir()
    shutil.copy(rows, tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1 broken")
    words = ("serve", "batch", MODEL, "--input", tmp_path / "in", "--output", tmp_path / "out.csv", "--state", state)
    assert tidegate(monkeypatch, capsys, *words) == (2, None)
    (tmp_path / "in" / "b.parquet").unlink()
    monkeypatch.setattr("tidegate.serve.batch_jobs.time.time", lambda: 5e9)
    status, told = tidegate(monkeypatch, capsys, *words)
    assert (status, told["rows"], told["scored"]) == (0, ROWS, 0)
    assert told["at"] < 5e9
    found = read(str(tmp_path / "out.csv"))
    assert dict(zip(found["flight_id"], found["score"], strict=True)) == scores
    _, told = tidegate(monkeypatch, capsys, *words)
    assert (told["scored"], told["at"]) == (ROWS, 5e9)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--input", "absent"), "absent: got 'nothing there'"),
        (("--input", "."), "takes a place outside the input"),
        (("--version", "v9"), "--version: got 'v9', takes one of v1"),
        (("--at", "noon"), "--at: got 'noon'"),
        (("--output", "sqlite:///x.db"), "takes a URL with #TABLE"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(served, monkeypatch, capsys, words, line):
    state, rows, _ = served
    given = {"--input": str(rows), "--output": "./out", "--state": str(state), **dict([words])}
    monkeypatch.setattr(
        sys, "argv", ["tidegate", "serve", "batch", MODEL, *(w for pair in given.items() for w in pair)]
    )
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr().err
    assert (end.value.code, len(said.splitlines())) == (2, 1)
    assert line in said
