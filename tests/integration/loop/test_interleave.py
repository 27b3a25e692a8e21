"""Interleaving through `tidegate up`: real gateway, services, merge service and controller; flights, a stated user."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.integration.loop.conftest import QUICK, Up, journaled, named, tidegate
from tests.integration.loop.ranked_flights import Session, load, write_ranker
from tests.simulated_loop import candidate
from tidegate.controller.reconcile import Seen, reconcile
from tidegate.journal.events import Draft
from tidegate.journal.store import open_journal
from tidegate.observations import Prediction, SegmentReader
from tidegate.register.models import store_model
from tidegate.spec import load_model
from tidegate.train.model_file import folder_name

SINCE, DAYS = "2013-04-01T00:00:00+00:00", 21
DAY, LOOK = 86400.0, 4 * 3600.0
RELEASE = {
    "minDuration": "1h", "block": None, "watch": "8h", "labelDeadline": "1h", "deadline": "40d",
    "stages": [{"interleave": {"sessions": 150}}, {"canary": {"weights": ["50%"], "requests": 100}}],
    "judge": {"loss": None, "errors": {"margin": "10%"}},
}  # fmt: skip


@pytest.fixture(scope="session")
def flights() -> tuple[list[Session], list[float]]:
    return load(SINCE, DAYS)


@dataclass
class Experiment:
    """One release with an interleaving stage. `shares`: what each ranker's weights are multiplied by."""

    up: Up
    sessions: Sequence[Session]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    asked: dict[str, int] = field(default_factory=dict)

    def play(self, until: Callable[[], bool], most: int = 10_000) -> int:
        """Sessions, clicks and event time, day by day, until it is so; returns the sessions it took."""
        for day, some in groupby(self.sessions[:most], key=lambda session: session.at // DAY):
            if until():
                break
            batch = list(some)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(self._ask, batch))
            clicks = [click for one in zip(batch, answers, strict=True) for click in self._clicks(*one)]
            told = self.up.ask("/labels", json={"labels": clicks}).json()
            # one that comes before its row is on disk is kept, but counts as unknown
            assert told["accepted"] + told["unknown"] == len(clicks), told
            self._announce((day + 1) * DAY)
        return len(self.asked)

    def _ask(self, session: Session) -> tuple[str, list[int]]:
        status, headers, document = self.post("/rank", {"rows": session.rows, "at": session.at})
        assert status == 200, document
        self.asked[headers["x-request-id"]] = len(session.rows)
        return headers["x-request-id"], [row["rank"] for row in document["rows"]]

    def post(self, path: str, document: object) -> tuple[int, dict[str, str], dict]:
        connection = HTTPConnection(self.up.gateway.removeprefix("http://"), timeout=20)
        connection.request("POST", path, json.dumps(document))
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read())
        connection.close()
        return found

    def _clicks(self, session: Session, answer: tuple[str, list[int]]) -> list[dict[str, object]]:
        told = {"metric": "click", "value": 1, "outcome": "observed", "time": session.at + 600}
        return [{"request_id": f"{answer[0]}/{item}", **told} for item in session.clicks(self.rng, answer[1])]

    def _announce(self, now: float) -> None:
        """Tell the time and wait for the controller's look at it."""
        assert self.up.ask("/clock", json={"now": now}).status_code == 200
        self.up.until(lambda found: ((found.trigger or {}).get("last_tick") or 0) >= now)

    def split(self, count: int = 400) -> None:
        """As many plain predictions, a second apart, after the newest session, and a look at them."""
        begin = float(self.up.ask("/clock", json={"now": 0}).json()["now"])
        row = self.sessions[0].rows[0]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: self.post("/predict", {"rows": [row], "at": begin + n}), range(1, count)))
        self._announce((begin // LOOK + 2) * LOOK)

    @property
    def release(self) -> dict:
        return journaled(self.up.state).release or {}

    def shown(self) -> dict[str, list[Prediction]]:
        """The items of every mixed list in the log."""
        found = defaultdict(list)
        for row in SegmentReader(self.up.state / "observations" / "predictions").read():
            if isinstance(row, Prediction) and row.shown:
                found[row.request_id.rpartition("/")[0]].append(row)
        return found


def prepared(state: Path, weights: dict[str, list[float]]) -> Path:
    """A state folder in which v1 serves by the journal and v2 waits; returns the Model file."""
    document = yaml.safe_load(QUICK.read_text())
    document["spec"]["release"] = RELEASE
    file = state.parent / "interleave.yaml"
    file.write_text(yaml.safe_dump(document))
    model, journal = load_model(file), open_journal(state, create=True)
    for version, given in weights.items():
        digest = write_ranker(state.parent / version, given)
        store_model(state.parent / version / folder_name(digest), digest, state)
        begin = 1364774400.0
        run = {"run": f"hand-{version}", "causes": ["manual"], "by": "person", "arguments": {}}
        ended = {"run": f"hand-{version}", "ok": True, "rows": 4000, "steps": [], "error": ""}
        drafts = [
            Draft("trigger.started", begin, run),
            Draft("register.candidate", begin, {**candidate(version, run["run"]), "digest": digest}),
            Draft("trigger.finished", begin, ended),
        ]
        seq = journal.append("quick", drafts, journaled(state).seq)[-1].seq
        if version == "v1":
            journal.append("quick", reconcile(model, journaled(state), Seen(begin)), seq)
    journal.close()
    return file


@pytest.fixture
def experiment(tmp_path: Path, flights: tuple[list[Session], list[float]]) -> Iterator[Callable[..., Experiment]]:
    """Starts `tidegate up` on two rankers: the better one's weights times a factor; -1 ranks the other way round."""
    started: list[Experiment] = []

    def start(champion: float, challenger: float) -> Experiment:
        state = tmp_path / "state"
        state.mkdir()
        factors = {"v1": champion, "v2": challenger}
        file = prepared(state, {name: [factor * one for one in flights[1]] for name, factor in factors.items()})
        running = Up(state, model=file).start().serving()
        running.until(lambda found: (found.traffic or {}).get("merge"))
        started.append(Experiment(running, flights[0]))
        return started[-1]

    yield start
    for one in started:
        assert one.up.end() == 0
        assert named(one.up.state) == []


def check_log(one: Experiment) -> None:
    """Every shown item is credited to exactly one model, the teams are even, and both begin equally often.

    A list that came too late, as on a busy machine, makes its whole session no evidence.
    """
    shown, first = one.shown(), Counter()
    assert {name: len(rows) for name, rows in shown.items()} == one.asked
    for rows in shown.values():
        by_place = sorted(rows, key=lambda row: row.shown.rank)
        assert [row.shown.rank for row in by_place] == list(range(1, len(rows) + 1))
        credits = [row.shown.credit for row in by_place]
        if None in rows[0].shown.took:
            assert set(credits) == {None}
            continue
        for start in range(0, len(rows) - 1, 2):
            assert set(credits[start : start + 2]) == {"v1", "v2"}
        assert set(credits) == {"v1", "v2"}
        first[credits[0]] += 1
    assert first.total() > 0.5 * len(shown)
    assert abs(first["v1"] - first["v2"]) < 4.5 * first.total() ** 0.5


def test_a_better_ranker_is_promoted(experiment: Callable[..., Experiment]) -> None:
    one = experiment(-1.0, 1.0)
    took = one.play(until=lambda: one.release["state"] != "interleave")
    assert one.release["state"] == "canary", one.release["sentence"]
    proof = one.release["proofs"]["credit"]
    assert (proof["place"], proof["estimate"] < 0, 150 <= took <= len(one.sessions)) == ("interleave", True, True)
    check_log(one)
    one.split()
    ended = one.up.until(lambda found: found.champion and found.champion.version == "v2")
    assert ended.release["state"] == "watch"
    assert tidegate("replay", "--state", one.up.state, "--evidence").stdout.startswith("reproduced: ")


def test_a_worse_ranker_is_aborted_and_the_champion_answers_alone(experiment: Callable[..., Experiment]) -> None:
    one = experiment(1.0, -1.0)
    one.play(until=lambda: one.release["state"] != "interleave")
    assert (one.release["state"], one.release["reason"]) == ("aborted", "proved_worse")
    assert one.release["sentence"].startswith("proved worse than the champion: credit +0.")
    check_log(one)
    one.up.until(lambda found: not (found.traffic or {}).get("merge"))
    status, headers, document = one.post("/rank", {"rows": one.sessions[0].rows, "at": 2e9})
    assert (status, headers["x-tidegate-model"], document["model"]) == (200, "quick@v1", "quick@v1")


def test_in_a_a_nothing_is_decided_by_chance(experiment: Callable[..., Experiment]) -> None:
    """The same ranking under another digest: 120 sessions do not tell them apart."""
    one = experiment(1.0, 2.0)
    one.play(until=lambda: one.release["state"] != "interleave", most=120)
    assert (one.release["state"], one.release["reason"]) == ("interleave", "no_evidence")
    check_log(one)
    events = [event for event in open_journal(one.up.state).read("quick") if event.data.get("judgement")]
    assert events[-1].data["judgement"]["checks"]["credit"]["n"] > 40
    assert {event.data["judgement"]["verdict"] for event in events} == {"hold"}
