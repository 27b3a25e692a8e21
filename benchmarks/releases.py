"""A thousand releases through the real controller's decisions, evidence and machine, with death at random points.

Each life is lived twice: undisturbed, and with a controller that dies before or after any effect (an append to the
journal, a change of traffic) and starts again on what is left. Rows are drawn by the traffic that the target has in
force; whatever a look sees is looked at for what must never be.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.results import Budget, Result, say
from tidegate.controller.evidence import ReleaseEvidence
from tidegate.controller.loop import matches
from tidegate.controller.reconcile import Ledger, Seen, command, reconcile, wanted_plan
from tidegate.errors import NotReady
from tidegate.journal.events import GENESIS, Draft, canonical, seal
from tidegate.journal.fold import ModelState, apply
from tidegate.observations import Label, Prediction
from tidegate.release.stages import ENDED
from tidegate.spec import Model
from tidegate.targets.memory import MemoryTarget
from tidegate.targets.routes import rules

RELEASES, CHANCE = 1000, 0.1
HOUR, LOOK, ROWS, LOOKS = 3600.0, 12 * 3600.0, 200, 44
SHADOW = {"shadow": {"requests": 300}}
CANARY = {"canary": {"weights": ["20%", "50%"], "requests": 150}}
THREE: dict[str, Any] = {"ab": {"arms": {"champion": "40%", "a": "30%", "b": "30%"}, "requests": 600}}
REGIONS = {"canary": {**CANARY["canary"], "regions": {"header": "x-region", "order": ["us", "eu"]}}}
WAYS: Mapping[str, list[Mapping[str, Any]]] = {
    "shadow, canary": [SHADOW, CANARY],
    "A/B": [{"ab": {"arms": {"champion": "50%", "a": "50%"}, "requests": 600}}],
    "A/B/C, sticky": [{"ab": {**THREE["ab"], "sticky": {"cookie": "arm"}}}],
    "shadow, A/B/C, canary": [SHADOW, THREE, CANARY],
    "by region": [REGIONS],
    "approval": [SHADOW, {"approval": {}}, CANARY],
}
KINDS = ("equal", "better", "worse", "fails", "fails in eu", "does not start")


class Killed(BaseException):
    """The controller's process is gone."""


def model_of(way: str) -> Model:
    """A Model file whose release is decided within a few thousand requests."""
    release = {
        "minDuration": "1d", "block": None, "watch": "1d", "deadline": "18d", "labelDeadline": "6h",
        "stages": WAYS[way],
        "judge": {"loss": {"metric": "brier", "margin": 0.05}, "errors": {"margin": "6%"}},
    }  # fmt: skip
    head = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "Model", "metadata": {"name": "m"}}
    return Model.model_validate({**head, "spec": {"workload": "a.b:c", "release": release}})


@dataclass
class Life:
    """One release from the first candidate to the end, and an aborted digest that is handed in again."""

    seed: int
    chance: float = 0.0
    deaths: int = 0
    faults: list[str] = field(default_factory=list)
    promotions: int = 0

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        self.way = list(WAYS)[self.seed % len(WAYS)]
        self.kinds = {"v1": "equal", **{f"v{n}": KINDS[int(draw.integers(len(KINDS)))] for n in (2, 3)}}
        self.model, self.state = model_of(self.way), ModelState(model="m")
        self.target = MemoryTarget(broken={v for v, kind in self.kinds.items() if kind == "does not start"})
        self.rows: list[Prediction] = []
        self.labels: list[Label] = []
        self.cookies: dict[int, str] = {}
        self._dice = np.random.default_rng(self.seed + 10**6)
        self._gathered: ReleaseEvidence | None = None

    def live(self) -> Life:
        """Until the release has ended, and one look more with what was quarantined."""
        self._write([_candidate("v1", 0.0)])
        self._look(1)
        self._write([_candidate("v2", LOOK), _candidate("v3", LOOK)])
        for number in range(2, LOOKS):
            self._traffic(number)
            self._look(number)
            if self.state.release and self.state.release["state"] in ENDED:
                break
        for digest in self.state.quarantined:
            self._write([_candidate(digest.removeprefix("sha256:"), self.state.time)])
        self._look(LOOKS)
        return self

    @property
    def end(self) -> tuple[Any, ...]:
        """What must be the same however often the controller died."""
        release = self.state.release or {}
        left = sorted(release.get("left", ()))
        served = [one.version for one in self.state.history]
        traffic = self.target.observe()
        return release["state"], release["entered"], left, served, sorted(self.state.quarantined), traffic

    def _look(self, number: int) -> None:
        """One look and everything that follows from it; a controller that died is followed by another one."""
        while True:
            try:
                now = number * LOOK
                self._apply()
                if self.state.time < now:
                    self._decide(now)
                self._approve(now)
                self._apply()
                return self._check()
            except Killed:
                self.deaths += 1
                self._gathered = None

    def _decide(self, now: float) -> None:
        release = self.state.release
        evidence = None
        if release and release["state"] not in ENDED:
            evidence = self._evidence(release, now)
        self._burn(lambda: self._write(reconcile(self.model, self.state, Seen(now, evidence))))

    def _approve(self, now: float) -> None:
        """A person who looks in between, whether a controller runs or not."""
        release = self.state.release
        if release and release["state"] == "approval":
            ledger = Ledger(self.state, "m")
            command(ledger, {"command": "approve", "by": "Ada", "reason": "looked at it"}, now)
            self._write(ledger.drafts)

    def _evidence(self, release: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        if self._gathered is None or self._gathered.name != release["name"]:
            self._gathered, self._given = ReleaseEvidence(release), 0
        rows = [row for row in self.rows[self._given :] if row.release == release["name"]]
        self._gathered.add(rows, self.labels[self._given :])
        self._given = len(self.rows)
        return self._gathered.at(now)

    def _apply(self) -> None:
        plan = wanted_plan(self.model, self.state)
        while plan is not None and not matches(plan, self.target.observe()):
            try:
                self._burn(lambda plan=plan: self.target.apply(plan))  # type: ignore[misc]
            except NotReady as error:
                ledger = Ledger(self.state, "m")
                told = {"command": "challenger_failed", "reason": str(error), "version": error.version}
                command(ledger, told, self.state.time)
                self._burn(lambda drafts=ledger.drafts: self._write(drafts))  # type: ignore[misc]
            plan = wanted_plan(self.model, self.state)

    def _burn(self, effect: Callable[[], None]) -> None:
        dies, late = self._dice.random() < self.chance, self._dice.random() < 0.5
        if dies and not late:
            raise Killed
        effect()
        if dies:
            raise Killed

    def _write(self, drafts: list[Draft]) -> None:
        """All or nothing, through JSON, as the journal does it."""
        for draft in drafts:
            plain = Draft(draft.kind, draft.time, json.loads(canonical(draft.data)))
            self.promotions += any(action["action"] == "Promote" for action in plain.data.get("actions", ()))
            self.state = apply(self.state, seal(plain, "m", self.state.seq + 1, 0.0, GENESIS))

    def _check(self) -> None:
        """What must never be seen."""
        seen, state = self.target.observe(), self.state
        splits = [seen.split, *((split for _, split in seen.regions.splits) if seen.regions else ())]
        if any(abs(sum(weight for _, weight in split) - 1) > 1e-9 for split in splits):
            self.faults.append("weights do not sum to 100 %")
        if {running.digest for running in seen.running} & set(state.quarantined):
            self.faults.append("a quarantined digest runs")
        if len({served.digest for served in state.history}) != len(state.history) and not state.quarantined:
            self.faults.append("two champions")
        release = state.release
        over = release is None or release["state"] in ENDED
        if over and state.champion and seen.split != ((state.champion.version, 1.0),):
            self.faults.append("not the champion alone")
        if self.promotions > 1:
            self.faults.append("two promotions")

    def _traffic(self, number: int) -> None:
        """Requests of one look's time, by the traffic that is in force, and their labels an hour later."""
        plan = wanted_plan(self.model, self.state)
        assert plan is not None
        draw = np.random.default_rng([self.seed, number])
        ways = [rule for rule in rules(plan) if "/predict" in rule.prefixes]
        for i in range(ROWS):
            time = (number - 1) * LOOK + (i + 0.5) * LOOK / ROWS
            client, region = int(draw.integers(5000)), ("us", "eu", "")[int(draw.integers(3))]
            rule = next(r for r in ways if r.match is None or _matches(r.match, self.cookies.get(client, ""), region))
            pick = draw.choice(len(rule.entries), p=np.array([e.weight for e in rule.entries]) / 1e4)
            entry, truth, lucky = rule.entries[pick], draw.random() < 0.3, draw.random(4)
            if entry.cookie:
                self.cookies[client] = entry.cookie.partition(";")[0]
            for version in (entry.version, *rule.mirrors):
                self.rows.append(self._row(f"{number}-{i}/0", time, version, dict(entry.sets), truth, lucky, region))
                self.labels.append(Label(f"{number}-{i}/0", time + HOUR, time + HOUR, float(truth), "observed"))

    def _row(
        self, name: str, time: float, version: str, heard: Mapping[str, str], truth: bool, lucky: Any, region: str
    ) -> Prediction:
        kind = self.kinds[version]
        fails = kind == "fails" or (kind == "fails in eu" and region == "eu")
        error = bool(lucky[0] < (0.3 if fails else 0.002))
        told = {"better": 0.65, "worse": 0.0}.get(kind, 0.45)
        score = (told if truth else 1 - told) * 0.6 + 0.4 * lucky[1] if kind != "equal" else 0.3 + 0.2 * lucky[1]
        return Prediction(
            name, time, time, version, f"sha256:{version}", heard.get("x-tidegate-arm"),
            float(heard["x-tidegate-propensity"]), heard.get("x-tidegate-release"), None if error else float(score),
            error, 5.0, [], weights=heard.get("x-tidegate-weights"), region=heard.get("x-tidegate-region"),
            returning=heard.get("x-tidegate-returning") == "1",
        )  # fmt: skip


def _matches(match: Any, cookie: str, region: str) -> bool:
    import re

    return bool(re.fullmatch(match.value, cookie)) if match.regex else match.value == region


def _candidate(version: str, time: float) -> Draft:
    return Draft("register.candidate", time, {"run": "", "version": version, "digest": f"sha256:{version}", "rows": 1})


def both(seed: int, chance: float = CHANCE) -> tuple[Life, Life]:
    """The same life without and with deaths."""
    return Life(seed).live(), Life(seed, chance).live()


def run(releases: int = RELEASES) -> Result:
    """Every life twice; the counts of what must not be."""
    ends: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    differ, deaths, faults = 0, 0, Counter[str]()
    for seed in range(releases):
        calm, disturbed = both(seed)
        differ += calm.end != disturbed.end
        deaths += disturbed.deaths
        faults.update([*calm.faults, *disturbed.faults])
        ends[calm.way][calm.end[0]] += 1
        if seed % 100 == 99:
            say(f"releases: {seed + 1} of {releases}, {deaths} deaths, {differ} differ, {dict(faults)}")
    rows = [(way, *(str(found[state]) for state in ENDED)) for way, found in ends.items()]
    budgets = [
        Budget("final states equal the undisturbed ones", "all", f"{releases - differ} of {releases}", differ == 0),
        Budget("two champions, traffic to a quarantined digest, weights not 100 %", "never",
               f"{sum(faults.values())} times", not faults),
    ]  # fmt: skip
    notes = [f"{deaths} deaths of the controller, each before or after an append or a change of traffic."]
    figures = {"differ": differ, "deaths": deaths, "faults": dict(faults)}
    title = f"{releases} simulated releases, lived without and with deaths"
    return Result("releases", title, ("way", *ENDED), rows, budgets, notes, figures)
