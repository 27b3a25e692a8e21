"""Challengers that are bad at something, some of them good at something else, through `tidegate up`: how each ends.

Everything is real: Envoy, services that load ONNX files, the controller, HTTP requests, labels by ``POST /labels``.
Only what becomes of a flight is drawn: the logit of P(late) is a feature of the request plus an effect of the day.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from benchmarks.hard_models import KNOWN, LIMITED, Version, write_version
from benchmarks.results import Budget, Result, say
from demo.story import serving, up
from flights.workload import ORIGINS
from tidegate.controller.reconcile import Seen, reconcile
from tidegate.journal.events import Draft
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import open_journal
from tidegate.register.models import store_model
from tidegate.release.stages import ENDED
from tidegate.spec import load_model
from tidegate.state import token
from tidegate.targets.processes import wait_until
from tidegate.traffic.openloop import Answer, OpenLoop

DAY, BEGIN = 86400.0, 1364774400.0
"""Traffic begins on 2013-04-01, UTC."""
PER_DAY, RATE, DAYS, SHARES = 600, 300.0, 40, (0.45, 0.3, 0.25)
"""Requests a day of event time and a second of wall time; days at most; shares of the origins."""
RELEASE: dict[str, Any] = {
    "stages": [{"shadow": {"requests": 1500}}, {"canary": {"weights": ["50%"], "requests": 1000}}],
    "judge": {
        "loss": {"metric": "brier", "margin": 0.01, "slices": ["origin"]},
        "errors": {"margin": "1%"},
        "latency": {"slo": "50ms", "margin": "5%"},
        "metrics": [{"name": "complaint", "margin": 0.05, "bound": 1.0}],
    },
    "minDuration": "7d", "block": "1d", "watch": "2d", "deadline": "38d", "labelDeadline": "6h",
}  # fmt: skip


SOUND, BIASED = Version(), Version(off=(0.8, 0.8, 0.8))


@dataclass(frozen=True)
class Case:
    """Two versions, how often each one's answers end with a complaint, what must become of the release.

    place: where it ends. names: what its sentence names, one of them. rate, per_day: requests a second
    of wall time, and a day of event time.
    """

    champion: Version = SOUND
    challenger: Version = SOUND
    complaints: tuple[float, float] = (0.1, 0.1)
    state: str = "aborted"
    place: str = "shadow"
    names: tuple[str, ...] = ()
    rate: float = RATE
    per_day: int = PER_DAY


CASES: Mapping[str, Case] = {
    "slow in 10 % of requests": Case(challenger=Version(slow=0.1), names=("latency",), rate=60.0),
    "fails 2 % of requests": Case(challenger=Version(fails=0.02), names=("errors",)),
    "better on average, much worse at LGA": Case(
        Version(off=(1.5, 1.5, 0.0)), Version(off=(0.0, 0.0, 2.0)), names=("loss[origin=LGA]",)
    ),
    "better Brier, more complaints": Case(BIASED, complaints=(0.1, 0.3), place="canary", names=("complaint",)),
    "constant output": Case(challenger=Version(off=(-1.2,) * 3, gain=0.0), names=("loss",)),
    "crashes at start": Case(challenger=Version(torn=True), names=("did not become ready",)),
    "none of these faults": Case(BIASED, state="promoted", place="watch"),
    "better, three requests a day": Case(BIASED, state="expired", names=("the champion stays",), per_day=3),
    "better, no traffic": Case(BIASED, state="expired", names=("the champion stays",), per_day=0),
}


@dataclass
class Ended:
    """How one release ended: its state, the stage before the end, its sentence, what was sent until then."""

    state: str
    place: str
    reason: str
    sentence: str
    requests: int = 0
    days: float = 0.0
    failed: int = 0
    served: Counter[str] = field(default_factory=Counter)
    quarantined: bool = False
    better: bool = False

    def right(self, case: Case) -> bool:
        """Whether this is what must become of the case, with a sentence that says why."""
        reasons = {"promoted": ("watched",), "expired": ("deadline",), "aborted": ("proved_worse", "not_ready")}
        told = not case.names or any(name in self.sentence for name in case.names)
        told = told and self.reason in reasons[case.state]
        quarantined = self.quarantined == (case.state == "aborted")
        return (self.state, self.place) == (case.state, case.place) and told and quarantined


def prepared(state: Path, case: Case) -> Path:
    """A state folder in which v1 serves by the journal and v2 waits; returns the Model file."""
    from tests.simulated_loop import candidate

    file = state.parent / "hard.yaml"
    head = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "metadata": {"name": "hard"}}
    file.write_text(yaml.safe_dump({**head, "spec": {"workload": "flights.workload:flight_delay", "release": RELEASE}}))
    model, journal = load_model(file), open_journal(state, create=True)
    for name, version in (("v1", case.champion), ("v2", case.challenger)):
        folder, digest = write_version(state.parent / name, version)
        store_model(folder, digest, state)
        run = f"hand-{name}"
        drafts = [
            Draft("trigger.started", BEGIN, {"run": run, "causes": ["manual"], "by": "person", "arguments": {}}),
            Draft("register.candidate", BEGIN, {**candidate(name, run), "digest": digest}),
            Draft("trigger.finished", BEGIN, {"run": run, "ok": True, "rows": 4000, "steps": [], "error": ""}),
        ]
        known = fold(journal.read("hard"), ModelState(model="hard"))
        known = fold(journal.append("hard", drafts, known.seq), known)
        if name == "v1":
            journal.append("hard", reconcile(model, known, Seen(BEGIN)), known.seq)
    journal.close()
    return file


class Traffic:
    """Requests of one day after the other through the gateway, their labels and complaints, event time."""

    def __init__(self, case: Case, gateway: str, state: Path, seed: int = 1) -> None:
        self.case, self.state, self._rng = case, state, np.random.default_rng(seed)
        self._port = int(gateway.rsplit(":", 1)[1])
        headers = {"authorization": f"Bearer {token(state)}"}
        self._control = httpx.Client(base_url=gateway, headers=headers, timeout=30.0, trust_env=False)
        self._journal = open_journal(state)
        self.known, self.places = ModelState(model="hard"), list[str]()
        self.requests = self.failed = 0
        self.served: Counter[str] = Counter()

    def play(self, days: int = DAYS) -> Ended:
        """Until the release has ended."""
        wait_until(lambda: self.follow() and self.known.traffic is not None, 60.0)
        day = 0
        while day < days and not self._over():
            self._day(BEGIN + day * DAY)
            day += 1
        release = self.known.release or {}
        place = next((name for name in reversed(self.places) if name not in ENDED), "")
        checks = self._last_checks()
        return Ended(
            release.get("state", ""), place, release.get("reason", ""),
            re.sub(r"(?<!\w)/\S*/", "", release.get("sentence", "")), self.requests,
            (self.known.time - BEGIN) / DAY, self.failed, self.served,
            release["challengers"][0]["digest"] in self.known.quarantined,
            (checks.get("loss", {}).get("estimate") or 0.0) < 0,
        )  # fmt: skip

    def follow(self) -> bool:
        """Read what the journal got; answers true."""
        for event in self._journal.read("hard", self.known.seq):
            self.known = fold([event], self.known)
            if (release := self.known.release) and (not self.places or self.places[-1] != release["state"]):
                self.places.append(release["state"])
        return True

    def _over(self) -> bool:
        self.follow()
        return bool(self.known.release and self.known.release["state"] in ENDED)

    def _last_checks(self) -> Mapping[str, Any]:
        found = [event for event in self._journal.read("hard") if event.data.get("judgement")]
        return found[-1].data["judgement"]["checks"] if found else {}

    def _day(self, start: float) -> None:
        size = self.case.per_day
        at = start + (np.arange(size) + 0.5) * DAY / size * 0.99 if size else np.empty(0)
        known = np.round(self._rng.normal(-1.3, 1.0, size), 3)
        origin, precip = self._rng.choice(3, size, p=SHARES), self._rng.random(size)
        late = self._rng.random(size) < 1 / (1 + np.exp(-(known + self._rng.normal(0, 0.3))))
        bodies = [
            json.dumps({"rows": [{"origin": ORIGINS[o], KNOWN: k, LIMITED: round(p, 3)}], "at": a}).encode()
            for o, k, p, a in zip(origin, known.tolist(), precip.tolist(), at.tolist(), strict=True)
        ]
        answers = asyncio.run(self._sent(bodies))
        self._tell(list(self._labels(answers, at, late)))
        self._announce(start + DAY)

    async def _sent(self, bodies: list[bytes]) -> list[Answer]:
        answers: list[Answer] = []
        client = OpenLoop("127.0.0.1", self._port, answers.append)
        await client.run((number / self.case.rate, "/predict", body) for number, body in enumerate(bodies))
        client.close()
        self.requests += client.sent
        self.failed += sum(answer.status != 200 for answer in answers)
        self.served.update(answer.model.rpartition("@")[2] for answer in answers if answer.status == 200)
        return answers

    def _labels(self, answers: list[Answer], at: Any, late: Any) -> Iterator[dict[str, Any]]:
        complains = self._rng.random(len(at))
        for answer in answers:
            number = int(answer.tag)
            told = {"request_id": f"{answer.request_id}/0", "outcome": "observed", "time": float(at[number]) + 7200}
            share = self.case.complaints[answer.model.endswith("@v2")]
            yield {**told, "value": float(late[number])}
            yield {**told, "value": float(complains[number] < share), "metric": "complaint"}

    def _tell(self, labels: list[dict[str, Any]]) -> None:
        for start in range(0, len(labels), 500):
            self._control.post("/labels", json={"labels": labels[start : start + 500]}).raise_for_status()

    def _announce(self, now: float) -> None:
        """Tell the time, and wait for the controller's look at it."""

        def looked() -> bool:
            self._control.post("/clock", json={"now": now}).raise_for_status()
            return self.follow() and ((self.known.trigger or {}).get("last_tick") or 0) >= now

        if not wait_until(looked, 120.0, every=0.02):
            raise SystemExit(f"hard_challengers: no look at {now} in 120 s")


def play(case: Case, state: Path) -> Ended:
    """One release, from `tidegate up` to its end, in a state folder that is new."""
    state.mkdir(parents=True)
    with up(prepared(state, case), state) as gateway:
        serving(gateway)
        return Traffic(case, gateway, state).play()


def run() -> Result:
    """Every case once."""
    ended = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory(prefix="tidegate-hard-") as made:
            ended[name] = play(case, Path(made) / "state")
        say(f"hard_challengers: {name}: {ended[name].state}: {ended[name].sentence}")
    return told(ended)


def told(ended: Mapping[str, Ended]) -> Result:
    """The result as a table."""
    rows, wrong = [], [name for name, one in ended.items() if not one.right(CASES[name])]
    for name, one in ended.items():
        share = one.served["v2"] / max(one.served.total(), 1)
        rows.append(
            (name, f"{one.state} in {one.place}", f"{one.requests:,}", f"{one.days:.1f}", f"{share:.0%}",
             f"{one.failed}", one.sentence)
        )  # fmt: skip
    budgets = [
        Budget("the right verdict with the right sentence", f"{len(ended)} of {len(ended)}",
               f"{len(ended) - len(wrong)} of {len(ended)}{''.join(f'; not {name}' for name in wrong)}", not wrong),
    ]  # fmt: skip
    notes = [
        f"One release each through `tidegate up`: {PER_DAY} requests a day of event time at {RATE:g} a second, seed 1; "
        "the release block of benchmarks/hard_challengers.py, the versions of benchmarks/hard_models.py.",
        "Slow: a product of two matrices of 1,600 rows before the answer, 60 requests a second. Latency objective "
        f"{RELEASE['judge']['latency']['slo']}.",
    ]
    figures = {name: {**one.__dict__, "served": dict(one.served)} for name, one in ended.items()}
    columns = ("challenger", "ended", "requests", "days", "answered by it", "failed for users", "sentence")
    title = "hard challengers through the real gateway and services"
    return Result("hard_challengers", title, columns, rows, budgets, notes, figures)
