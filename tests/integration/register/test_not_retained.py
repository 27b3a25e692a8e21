"""`retain: false`: of 100 planted values none is found under the state folder once the run has ended."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import httpx
import planted_flights as planted
import polars as pl
import psutil
import pytest
import yaml
from contract.orchestrator import ended

from tests.decoded import found_in
from tidegate.journal.store import open_journal, verify
from tidegate.observations import SegmentReader
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.register import trace
from tidegate.serve.loaded import load_model
from tidegate.spec import GateSpec, TrainingSpec
from tidegate.steps import STEPS, read_records
from tidegate.train.model_file import folder_name
from tidegate.train.settings import RunSettings

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "pipelines" / "continuous_training.yaml"
MODEL, EVERY = "flight-delay", {*planted.TEXTS, *planted.NUMBERS}


def arguments(run: str) -> dict[str, str]:
    settings = RunSettings(
        training=TrainingSpec(mode="stateless", retain=False, replay=0.0),
        gate=GateSpec(margin=0.0, slices=("origin", "dest")),
        gate_window=timedelta(days=7),
    )
    named = {"workload": "planted_flights:flight_delay", "model": MODEL, "until": "2013-02-08T00:00:00Z", "run": run}
    return {**named, "cause": "manual", "settings": settings.text(), "champion": ""}


@pytest.fixture(scope="module")
def orchestrator(tmp_path_factory) -> LocalOrchestrator:
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    state = tmp_path_factory.mktemp("forgetful") / "state"
    open_journal(state, create=True).close()
    return LocalOrchestrator(state)


@pytest.fixture(scope="module")
def state(orchestrator) -> Path:
    """A run that ended, and the folder that it left."""
    status = ended(orchestrator, orchestrator.submit(PACKAGE, arguments("forgotten"), "forgotten"), 240)
    assert (status.state, status.error) == ("succeeded", "")
    return orchestrator._state


def candidate(state: Path) -> dict:
    events = open_journal(state).read(MODEL)
    verify(events)
    assert [event.kind for event in events] == ["register.candidate"]
    return events[0].data


def test_the_search_finds_what_is_there_in_every_form(tmp_path):
    texts, numbers = list(planted.TEXTS), list(planted.NUMBERS)
    rows = pl.DataFrame({"text": texts, "number": numbers})
    rows.write_parquet(tmp_path / "zstd.parquet")
    rows.with_columns(pl.col("number").cast(pl.Float32)).write_parquet(tmp_path / "narrow.parquet")
    (tmp_path / "packed.gz").write_bytes(gzip.compress(json.dumps(rows.to_dicts()).encode()))
    (tmp_path / "plain.json").write_text(json.dumps(rows.to_dicts()))
    database = sqlite3.connect(tmp_path / "some.db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (a, b)")
    database.executemany("INSERT INTO t VALUES (?, ?)", rows.rows())
    database.commit()  # still open: the rows are in the write-ahead log alone
    hits = found_in(tmp_path, texts, numbers)
    database.close()
    for name in ("zstd.parquet", "narrow.parquet", "packed.gz", "plain.json"):
        assert {value for path, value in hits if path == name} == EVERY
    assert {value for path, value in hits if path.startswith("some.db")} == EVERY


def test_the_rows_that_were_learned_from_held_every_planted_value():
    tables = planted.flight_delay.source.arrivals(pl.Series(["2013-02-08"]).str.to_datetime(time_zone="UTC")[0])
    held = {*tables["flights"]["tailnum"], *tables["flights"]["dest"]}
    held |= {*tables["weather"]["wind_speed"], *tables["weather"]["temp"]}
    assert held >= EVERY
    assert len(EVERY) == 100


def test_no_planted_value_is_anywhere_under_the_state_folder(state):
    assert sum(path.is_file() for path in state.rglob("*")) > 15
    assert found_in(state, planted.TEXTS, planted.NUMBERS) == []
    assert not (state / "runs" / "forgotten" / "scratch").exists()
    assert not [path for path in state.rglob("*.parquet")]


def test_what_is_kept_is_counts_sums_and_bins_of_at_least_20_rows(state):
    data = candidate(state)
    kept = data["kept"]
    assert data["retained"] is False
    assert data["data_version"].endswith(".dir")
    assert kept["rows"] == data["rows"] > 10_000
    wind = kept["features"]["wind_speed"]
    assert (wind["edges"][0], wind["edges"][-1]) == (0.0, 253.0)
    assert min(wind["counts"]) >= 20
    assert sum(wind["counts"]) == wind["count"]
    assert len(wind["edges"]) == len(wind["counts"]) + 1
    assert all(rows >= 20 for rows, _ in kept["features"]["dest"]["categories"].values())
    measured = data["gate"]["measurements"]
    values = [measured["days"], *(days for column in measured["slices"].values() for days in column.values())]
    assert min(min(days["rows"]) for days in values) >= 20
    assert "others" in measured["slices"]["dest"]


def test_the_model_answers_and_its_text_holds_the_contracts_range(state):
    data = candidate(state)
    folder = state / "models" / folder_name(data["digest"])
    model = load_model(folder, data["digest"])
    text = (folder / "model.txt").read_text()
    infos = next(line for line in text.splitlines() if line.startswith("feature_infos=")).split("=")[1].split()
    assert infos[model.schema.names.index("wind_speed")] == "[0:253]"
    assert infos[model.schema.names.index("distance")] == "[10:10000]"
    assert data["gate"]["verdict"] == "passed"


def test_lineage_says_that_rows_are_not_retained_and_no_step_was_cached(state):
    document = trace.trace(state, "v1")
    assert document["retained"] is False
    assert "not retained" in trace.text(document)
    records = read_records(state, "forgotten")
    assert [(record.step, record.cached) for record in records] == [(name, False) for name in STEPS]
    assert not (state / "cache").exists()


@pytest.fixture(scope="module")
def served(state, tmp_path_factory) -> dict:
    """`tidegate up` on that folder: the answer to planted features, after which everything was stopped in order."""
    model = yaml.safe_load((ROOT / "k8s/models/flight-delay.yaml").read_text())
    model["spec"]["workload"] = "planted_flights:flight_delay"
    model["spec"]["training"] = {"retain": False, "replay": 0}
    file = tmp_path_factory.mktemp("model") / "model.yaml"
    file.write_text(yaml.safe_dump(model))
    words = (sys.executable, "-m", "tidegate.cli", "up", file, "--state", state, "--port", "0", "--clock", "events")
    process = subprocess.Popen((*words, "--json"), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        gateway = json.loads(process.stdout.readline())["gateway"]
        rows = [{"dest": text, "wind_speed": number} for text in planted.TEXTS for number in planted.NUMBERS[::5]]
        deadline = time.monotonic() + 60
        while (answer := httpx.post(f"{gateway}/predict", json={"rows": rows})).status_code != 200:
            assert time.monotonic() < deadline, answer.text
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
    assert process.returncode in (0, 130)
    return answer.json() | {"id": answer.headers["x-request-id"], "asked": len(rows)}


def test_what_was_asked_is_logged_without_its_features(state, served):
    assert len(served["rows"]) == served["asked"] == 500
    logged = [one for one in SegmentReader(state / "observations" / "predictions").read() if hasattr(one, "features")]
    assert len(logged) == 500
    assert {(len(one.features), one.keys) for one in logged} == {(0, None)}
    assert found_in(state, planted.TEXTS, planted.NUMBERS) == []
    assert trace.trace(state, served["id"])["version"] == "v1"


def test_a_run_that_is_killed_leaves_its_rows_until_somebody_asks_how_it_is(orchestrator, state):
    run = orchestrator.submit(PACKAGE, arguments("killed"), "killed")
    folder, deadline = state / "runs" / run, time.monotonic() + 120
    while not snapshot_in(folder / "scratch"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in (process.info["cmdline"] or []):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
    assert found_in(folder, planted.TEXTS, planted.NUMBERS)
    assert orchestrator.status(run).state == "failed"
    assert found_in(state, planted.TEXTS, planted.NUMBERS) == []


def snapshot_in(folder: Path) -> bool:
    """Whether a step has written its rows; os.walk passes over what is renamed under it, where rglob would raise."""
    return any(place.endswith("/arrivals") and "manifest.json" in files for place, _, files in os.walk(folder))
