"""Batches that are killed at any instant and go on: every row is in every kind of output exactly once."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from outputs import KINDS, place_of, read, ready

from tests.batch_flights import SCHEMA, job_to, work, write_partitions
from tests.simulated_loop import START, quick
from tidegate.controller.clock import EventClock
from tidegate.controller.feed import Feed
from tidegate.controller.loop import Controller
from tidegate.journal.replay import replay_state
from tidegate.journal.store import open_journal
from tidegate.orchestrators.memory import MemoryOrchestrator
from tidegate.serve import batch_rows
from tidegate.serve.batch import Batch
from tidegate.serve.batch_jobs import LocalBatches
from tidegate.serve.batch_output import Made, Output, open_output
from tidegate.serve.loaded import load_model
from tidegate.serve.lookup import lookup_file
from tidegate.targets.memory import MemoryTarget
from tidegate.targets.processes import free_port
from tidegate.train.model_file import folder_name

HOUR = 3600.0
ROWS, PARTITIONS = [400] * 60, 60
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tidegate.serve.batch", "tidegate.serve.batch_table", "flights.workload", "polars"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory, trees):
    """(folder of partitions, what each flight's score is by the service's own session)."""
    state, digest = trees
    folder = tmp_path_factory.mktemp("rows") / "in"
    frame = write_partitions(folder, ROWS)
    scores = load_model(state / "models" / folder_name(digest)).score(SCHEMA.encode_frame(frame))
    return folder, dict(zip(frame["flight_id"], scores, strict=True))


def check(place: str, scores: dict[str, float]) -> None:
    found = read(place)
    assert found.height == len(scores)
    assert dict(zip(found["flight_id"], found["score"], strict=True)) == scores
    assert set(found["model"]) == {"quick@v1"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_there_once_however_often_a_batch_was_killed(kind, trees, rows, tmp_path, postgresql):
    (state, digest), (folder, scores), draw = trees, rows, random.Random(kind)
    job, killed, wait = job_to(state, digest, folder, place_of(kind, tmp_path, postgresql)), 0, 0.15
    while killed < 8:
        process = FORKS.Process(target=work, args=(job,))
        process.start()
        process.join(wait * draw.random())
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        killed, wait = killed + 1, wait * 1.3
    assert killed > 2
    done = Batch(job).run()
    assert (done.rows, done.partitions) == (len(scores), PARTITIONS)
    check(job.output, scores)
    again = Batch(job).run()
    assert (again.rows, again.scored) == (len(scores), 0)
    check(job.output, scores)


class Loop:
    """The real controller on a state folder, with real batches; target and runs in memory."""

    def __init__(self, state: Path, folder: Path, place: str) -> None:
        self.state, self.model = state, quick(batch={"cron": "0 4 * * *", "input": str(folder), "output": place})
        self.target = MemoryTarget()
        self.start()

    def start(self) -> None:
        journal = open_journal(self.state)
        newest = max(event.time for event in journal.read("quick"))
        clock, feed = EventClock(newest), Feed(self.state, self.model)
        batches = LocalBatches(self.model, self.state)
        self.controller = Controller(
            self.model, journal, self.target, MemoryOrchestrator(), clock, feed, batches=batches
        )

    def until(self, reached, hours: float = 4.0):
        self.controller.clock.announce(START + hours * HOUR)
        deadline = time.monotonic() + 120
        while not (found := reached()):
            assert time.monotonic() < deadline, (self.controller.status(), self.logs())
            self.controller.turn()
        return found

    def logs(self) -> list[str]:
        return [path.read_text() for path in (self.state / "batch").glob("*/log.txt")]

    def events(self, kind: str):
        return [event for event in open_journal(self.state).read("quick") if event.kind == kind]


@pytest.fixture(scope="module")
def finished() -> dict[str, Path]:
    """The state folder of a scheduled batch that was killed and went on, by kind of output."""
    return {}


def begun(place: str, output: Output, first: Made) -> bool:
    """Whether the first partition is there; of SQLite by its size, since a reader may wait for its lock to the end."""
    if not place.startswith("sqlite:///"):
        return output.rows(first) is not None
    file = Path(place.removeprefix("sqlite:///").partition("#")[0])
    return file.exists() and file.stat().st_size > 250_000


def cmdline(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduled_batch_outlives_its_own_death_and_the_controllers(
    kind, trees, rows, tmp_path, postgresql, finished
):
    (template, digest), (folder, scores) = trees, rows
    state = Path(shutil.copytree(template, tmp_path / "state"))
    place = place_of(kind, tmp_path, postgresql)
    loop = Loop(state, folder, place)
    loop.controller.turn()
    (started,) = loop.until(lambda: loop.events("serve.batch_started"))
    run, output = state / "batch" / started.data["run"], open_output(place)
    first, *_, last = [Made(p.name, p.token, digest, started.time) for p in batch_rows.partitions(str(folder))]
    assert loop.controller.busy() == [f"batch {run.name}"]
    (process,) = loop.until(lambda: [one for one in psutil.process_iter() if str(run) in cmdline(one)])
    while not begun(place, output, first):  # without a turn of the loop: all partitions take a fraction of a second
        assert process.is_running(), loop.logs()
    process.kill()
    assert output.rows(last) is None
    loop.start()
    loop.until(lambda: (run / "attempts").read_text() == "start\n" * 2)
    loop.controller.batches.stop(run.name)
    assert not (run / "attempts").exists()
    (ended,) = loop.until(lambda: loop.events("serve.batch_finished"))
    assert (ended.data["ok"], ended.data["result"]["rows"]) == (True, len(scores))
    assert ended.data["result"]["scored"] < len(scores)
    assert ended.data["result"]["parity"] == {"ok": True, "rows": 0, "equal": 0, "differing": 0, "furthest": 0.0}
    check(place, scores)
    loop.until(lambda: not loop.controller.busy(), 20)
    assert len(loop.events("serve.batch_started")) == 1
    report = replay_state(state)
    assert (report.fault, report.decisions["serve.batch_started"]) == ("", 1)
    finished[kind] = state


def test_a_service_answers_what_the_batch_predicted_with_its_age(trees, rows, finished):
    (_, digest), (_, scores), state = trees, rows, finished["postgresql"]
    port, name = free_port(), next(iter(scores))
    words = ("--model-dir", state / "models" / folder_name(digest), "--name", "quick", "--version", "v1")
    log = ("--observations", state / "observations" / "predictions", "--lookup", lookup_file(state))
    command = (sys.executable, "-m", "tidegate.serve.service", *words, *log, "--port", str(port))
    process = subprocess.Popen([str(word) for word in command])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            ready(client)
            before = time.time()
            found = client.get(f"/lookup/{name}")
            assert found.status_code == 200
            answer = found.json()
            assert (answer["key"], answer["score"], answer["model"]) == (name, scores[name], "quick@v1")
            assert (answer["digest"], answer["at"]) == (digest, START + 4 * HOUR)
            assert before - 0.01 <= answer["at"] + answer["age_seconds"] <= time.time() + 0.01
            assert found.headers["x-tidegate-digest"] == digest
            missing = client.get("/lookup/nobody")
            assert (missing.status_code, json.loads(missing.text)["error"]) == (
                404, "key: got 'nobody', takes a key that the last scheduled batch has predicted",
            )  # fmt: skip
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_a_batch_that_cannot_be_is_a_failed_one_with_its_reason_and_waits_for_the_next_time(trees, tmp_path):
    state = Path(shutil.copytree(trees[0], tmp_path / "state"))
    loop = Loop(state, tmp_path / "absent", str(tmp_path / "out"))
    loop.controller.turn()
    (ended,) = loop.until(lambda: loop.events("serve.batch_finished"))
    assert ended.data["ok"] is False
    assert "absent: got 'nothing there'" in ended.data["error"]
    loop.until(lambda: loop.events("serve.batch_started"), 24)
    assert len(loop.events("serve.batch_started")) == 1
