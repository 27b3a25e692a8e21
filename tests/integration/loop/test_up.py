"""``tidegate up`` as a process: one at a time, resumed, ended without a rest; bad models; the wall's clock."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import httpx
import pytest

from tests.integration.loop.conftest import QUICK, ROOT, SECOND, TIDEGATE, Up, journaled, named, tidegate
from tidegate.journal.store import open_journal
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.targets.processes import wait_until
from tidegate.train.model_file import folder_name


def predict(running: Up, question, **more):
    """One request as a user sends it."""
    return running.ask("/predict", token=False, json={"rows": [question.features], **more})


def rows_of(state) -> list[Prediction]:
    """The prediction log."""
    found = SegmentReader(state / "observations" / "predictions").read()
    return [record for record in found if isinstance(record, Prediction)]


def test_a_second_one_is_refused_a_stopped_one_resumes_and_nothing_is_left(up, state, questions):
    first = up().serving()
    refused = tidegate("up", QUICK, "--state", state, "--port", 0, status=2)
    assert refused.stderr.startswith(f"tidegate: --state {state}: got 'in use by another `tidegate up`', takes")
    assert (refused.stdout, len(refused.stderr.splitlines())) == ("", 1)
    assert predict(first, questions[0], at=questions[0].at).status_code == 200
    first.until(lambda found: found.traffic["mirrors"] == ["v2"])
    assert first.end(signal.SIGINT) == 0
    assert named(state) == []
    before = open_journal(state).read("quick")

    again = up().serving()
    answer = predict(again, questions[1], at=questions[1].at)
    assert answer.headers["x-tidegate-model"] == "quick@v1"
    status = again.ask("/status").json()
    assert (status["champion"]["version"], status["release"]["state"]) == ("v1", "shadow")
    again.until(lambda found: found.seq > len(before))
    assert open_journal(state).read("quick")[: len(before)] == before
    assert again.end(signal.SIGTERM) == 0
    assert named(state) == []
    assert tidegate("replay", "--state", state).stdout.startswith("reproduced: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_is_ended_while_it_starts_leaves_nothing(state, number):
    words = ("up", QUICK, "--state", state, "--port", "0")
    process = subprocess.Popen([*TIDEGATE, *map(str, words)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    record = state / "target" / "processes.json"
    assert wait_until(lambda: record.exists() and "gateway" in record.read_text(), 30)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    assert told == ""
    assert named(state) == []


def test_a_challenger_whose_file_was_changed_never_serves(up, state, questions):
    (digest,) = journaled(state).waiting
    file = state / "models" / folder_name(digest) / "model.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    running = up().serving()
    ended = running.until(lambda found: found.quarantined)
    assert ended.quarantined == {digest: "not_ready"}
    assert (ended.release["state"], ended.release["reason"]) == ("aborted", "not_ready")
    assert "model.onnx" in ended.release["sentence"]
    answers = [predict(running, question, at=question.at) for question in questions[:20]]
    assert {(a.status_code, a.headers["x-tidegate-model"]) for a in answers} == {(200, "quick@v1")}
    assert running.end() == 0
    rows = rows_of(state)
    assert [row.version for row in rows] == ["v1"] * 20
    assert tidegate("replay", "--state", state).stdout.startswith("reproduced: ")


def test_under_the_walls_clock_time_is_the_machines_and_labels_need_the_token(up, state, questions):
    started = time.time()
    running = up(clock="wall").serving()
    refused = running.ask("/clock", json={"now": 1.0})
    assert (refused.status_code, "--clock events" in refused.json()["error"]) == (409, True)
    answer = predict(running, questions[0])
    assert answer.status_code == 200
    sent = {"request_id": answer.headers["x-request-id"], "outcome": "observed", "value": 1, "time": time.time()}
    assert running.ask("/labels", token=False, json={"labels": [sent]}).status_code == 401
    # a label that comes before its row is on disk is kept, but counts as unknown
    assert wait_until(lambda: rows_of(state), 30)
    for label, kind in ((sent, "accepted"), (sent, "duplicate"), ({**sent, "request_id": "?"}, "unknown")):
        assert running.ask("/labels", json={"labels": [label]}).json()[kind] == 1
    running.until(lambda found: found.trigger)
    with httpx.stream("GET", running.gateway + "/console/stream", timeout=20, trust_env=False) as watched:
        assert next(watched.iter_lines()) == "retry: 1000"
        page = running.ask("/console", token=False).text
        assert "quick" in page[page.index("<tbody>") :]
        assert running.end() == 0  # whoever watches does not hold it up
    check_wall_times(state, started)


def check_wall_times(state, started: float) -> None:
    rows = rows_of(state)
    assert {row.arm for row in rows} == {"v1"}
    assert all(started <= row.time <= time.time() and abs(row.time - row.wall) < 1 for row in rows)
    labels = [r for r in SegmentReader(state / "observations" / "labels").read() if isinstance(r, Label)]
    assert len(labels) == 2
    events = open_journal(state).read("quick")
    looks = {event.time for event in events if event.kind == "trigger.evaluated"}
    assert len(looks) <= 4
    (opened,) = [event for event in events if event.kind == "release.opened"]
    assert started - 86400 <= opened.time <= time.time()


def test_a_body_that_is_wrong_is_refused_by_the_field(up, state, questions):
    running = up().serving()
    good, at = questions[0].features, questions[0].at
    for body, field in (
        ({"rows": [{**good, "nonsense": 1}], "at": at}, "nonsense"),
        ({"rows": [{**good, "distance": "far"}], "at": at}, "distance"),
        ({"rows": [good], "at": "noon"}, "at"),
        ({"lines": []}, "lines"),
    ):
        answer = running.ask("/predict", token=False, json=body)
        assert (answer.status_code, field in answer.text) == (400, True), answer.text
    for label, field in (
        ({"request_id": "a", "outcome": "observed", "value": 7, "time": at}, "labels[0].value"),
        ({"request_id": "a", "outcome": "lost", "time": at}, "labels[0].outcome"),
        ({"request_id": "a", "outcome": "observed", "value": 1}, "labels[0].time"),
    ):
        answer = running.ask("/labels", json={"labels": [label]})
        assert (answer.status_code, field in answer.json()["error"]) == (400, True), answer.text
    answer = running.ask("/clock", json={"now": "noon"})
    assert (answer.status_code, "now" in answer.json()["error"]) == (400, True)


def test_one_that_is_ended_while_a_run_works_leaves_nothing_and_the_next_one_goes_on(up, state, tmp_path):
    model = tmp_path / "daily.yaml"
    model.write_text(QUICK.read_text().replace("cooldown: 1h", 'cooldown: 1h, schedule: {cron: "0 4 * * *"}'))
    running = up(model=model).serving()
    running.until(lambda found: found.release)
    tidegate("release", "abort", "quick-r1", "--by", "ann", "--reason", "in the way", "--state", state)
    running.until(lambda found: found.traffic["mirrors"] == [] and not found.trigger.get("release_open"))
    running.ask("/clock", json={"now": journaled(state).time + 86400})
    found = running.until(lambda found: [run for run in found.running if run.arguments])
    (run,) = found.running
    assert run.causes == ("schedule",)
    assert wait_until(lambda: any("orchestrators.local" in line for line in named(state)), 20)
    assert running.end(signal.SIGINT) == 0
    assert named(state) == []
    again = up(model=model).serving()
    ended = again.until(lambda found: not found.running)
    assert (ended.runs[run.name].ok, ended.champion.version) == (False, "v1")
    assert again.end() == 0


def test_a_run_again_with_nothing_changed_says_so(trained, capsys):
    before, started = journaled(trained), time.monotonic()
    done = tidegate("run", QUICK, "--state", trained, "--until", SECOND, "--mode", "stateless", "--json")
    with capsys.disabled():
        print(f"\nthe same run again: {time.monotonic() - started:.1f} s")
    told = json.loads(done.stdout)
    assert (told["verdict"], told["version"]) == ("passed", "v2")
    assert "the same model as one that is registered already" in told["reason"]
    after = journaled(trained)
    assert (after.versions, after.waiting, after.running) == (before.versions, before.waiting, ())
