"""Challengers that are good at something: each gets the right verdict, with the sentence that says why.

Simulated traffic through the real fold, judge and machine, under a Model file's policy with a slice and a business
metric. The traffic differs from day to day, and copies share most of their noise with the request.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from tests.simulated_loop import World as Loop
from tests.simulated_release import World
from tidegate.release.actions import Promote
from tidegate.release.rows import Labels, rows_of
from tidegate.release.traffic import wanted
from tidegate.spec import ReleaseSpec

ORIGINS, SHARE = ("EWR", "JFK", "LGA"), (0.5, 0.35, 0.15)
SPEC = ReleaseSpec.model_validate(
    {
        "stages": [{"shadow": {"requests": 3000}}, {"canary": {"weights": ["10%", "50%"], "requests": 1500}}],
        "judge": {
            "loss": {"metric": "brier", "margin": 0.01, "slices": ["origin"]},
            "errors": {"margin": "1%"},
            "latency": {"slo": "50ms", "margin": "2%"},
            "metrics": [{"name": "complaint", "margin": 0.05, "bound": 1.0}],
        },
        "minDuration": "7d", "block": "1d", "watch": "2d", "deadline": "45d",
    }
)  # fmt: skip
CLEAN = {"errors": (0.002, 0.002), "slow": (0.01, 0.01)}


@dataclass
class Airport(World):
    """Scores by origin, and complaints by whoever served.

    off: how far each version's logit is off at each origin. constant: the challenger always answers this.
    complaints: share of each version's requests that end with one.
    """

    off: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    constant: float | None = None
    complaints: tuple[float, float] = (0.1, 0.1)
    per_day: int = 2000

    def _traffic(self, rng, release, time, look, effect, sent):
        n = rng.poisson(self.per_day * look / 86400)
        at = np.sort(rng.uniform(time, time + look, n))
        ids = [f"q{sent + i}" for i in range(n)]
        self.origin = rng.choice(3, n, p=SHARE)
        logit = rng.normal(-1.3, 1.0, n) + effect[(at // 86400).astype(int)]
        late = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
        shared, answers = logit + rng.normal(0, 0.3, n), []
        for off, errors, slow in zip(self.off, self.errors, self.slow, strict=True):
            error = rng.random(n) < errors
            score = 1 / (1 + np.exp(-(shared + np.array(off)[self.origin] + rng.normal(0, 0.15, n))))
            answers.append([np.where(error, np.nan, score), error, np.where(rng.random(n) < slow, 90.0, 9.0)])
        if self.constant is not None:
            answers[1][0] = np.full(n, self.constant)
        rows = self._rows(rng, release, at, ids, answers)
        told = at + rng.uniform(2, 8, n) * 3600
        return rows, Labels(told, ids, late), self._complained(rng, rows, told, ids)

    def _complained(self, rng, rows, told, ids):
        arm = rows[0].arm if rows else np.zeros(len(ids), dtype=int)
        value = (rng.random(len(ids)) < np.array(self.complaints)[arm]).astype(float)
        return Labels(told, ids, value, "complaint")

    def _rows(self, rng, release, at, ids, answers):
        plan, number = wanted(release), {"v1": 0, "v2": 1}
        drawn = rng.choice(len(plan.split), len(at), p=[weight for _, weight in plan.split])
        arm = np.array([number[version] for version, _ in plan.split], dtype=int)[drawn]
        share = np.array([weight for _, weight in plan.split])[drawn]
        groups = [[ORIGINS[i] for i in self.origin]]

        def rows(arm, share, mirrored):
            score, error, latency = (np.where(arm == 1, answers[1][k], answers[0][k]) for k in range(3))
            told = {"score": score, "error": error, "latency_ms": latency, "groups": groups}
            return rows_of(at, ids, arm, share, mirrored=np.full(len(at), mirrored), **told)

        copied = [rows(np.full(len(at), number[v]), np.ones(len(at)), True) for v in plan.mirrors]
        return [rows(arm, share, False), *copied] if plan.release else []

    def _feed(self, fold, batch):
        super()._feed(fold, batch)
        fold.label(batch[2])


HARD = {
    # what it is: (the world, where it ends, the check that its sentence names)
    "slow": (dict(slow=(0.01, 0.2)), "shadow", "latency"),
    "fails 2 % of requests": (dict(errors=(0.002, 0.02)), "shadow", "errors"),
    "better on average, much worse at LGA": (
        dict(off=((0.9, 0.9, 0.0), (0.0, 0.0, 1.2))), "shadow", "loss[origin=LGA]"
    ),
    "better Brier, more complaints": (
        dict(off=((0.4, 0.4, 0.4), (0.0, 0.0, 0.0)), complaints=(0.1, 0.2)), "split", "complaint"
    ),
    "constant output": (dict(constant=0.27), "shadow", "loss"),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hard_challenger_is_aborted_and_told_why(name, seed):
    settings, place, check = HARD[name]
    world = Airport(**settings)
    release, evidence = world.run(SPEC, seed)
    judgement = world.events[-1][3]
    assert (release.state, release.reason) == ("aborted", "proved_worse"), release.sentence
    assert judgement.place == place
    worse = [one for one in judgement.checks if one == check or one.startswith(f"{check}[")]
    assert any(f"{one} +" in release.sentence and judgement.checks[one].lower > 0 for one in worse), release.sentence
    assert release.sentence.startswith("proved worse than the champion: ")
    assert not any(isinstance(action, Promote) for _, _, action, _ in world.events)
    if "better" in name:
        assert evidence.at("shadow").state("loss").estimate < 0, "on average it is better"


def test_one_with_none_of_these_faults_is_promoted_by_the_same_policy():
    world = Airport(off=((0.3, 0.3, 0.3), (0.0, 0.0, 0.0)))
    release, _ = world.run(SPEC, seed=1)
    assert release.state == "promoted", release.sentence


def test_one_that_crashes_at_start_is_aborted_and_never_gets_traffic(tmp_path):
    loop = Loop(tmp_path)
    loop.start()
    loop.hand_in("v1")
    loop.until(lambda state: state.champion)
    loop.target.broken.add("v2")
    loop.hand_in("v2")
    state = loop.until(lambda state: state.release and state.release["state"] == "aborted")
    assert state.release["reason"] == "not_ready"
    assert state.release["sentence"].startswith("the challenger did not become ready")
    assert list(state.quarantined.values()) == ["not_ready"]
    loop.looks(3)
    assert loop.state.champion.version == "v1"
    assert dict(loop.target.observe().split) == {"v1": 1.0}


@pytest.mark.parametrize("per_day", [0, 3])
def test_with_no_or_low_traffic_it_holds_until_the_deadline_and_the_champion_stays(per_day):
    world = Airport(per_day=per_day, off=((0.5, 0.5, 0.5), (0.0, 0.0, 0.0)))
    release, evidence = world.run(SPEC, seed=1, days=60)
    assert (release.state, release.reason) == ("expired", "deadline")
    assert release.sentence.startswith("no verdict by the deadline; the champion stays")
    assert [type(action).__name__ for _, _, action, _ in world.events] == ["End"]
    assert world.events[-1][0] == 45
    assert world.events[-1][3].verdict == "hold"
    assert evidence.at("shadow").counts.requests <= per_day * 60


def test_an_interleaving_stage_without_sessions_holds_until_the_deadline_too():
    spec = SPEC.model_copy(update={"stages": ReleaseSpec.model_validate(
        {"stages": [{"interleave": {"sessions": 100}}, {"canary": {"weights": ["50%"]}}]}
    ).stages})  # fmt: skip
    world = Airport(per_day=0)
    release, _ = world.run(spec, seed=1, days=60)
    assert (release.state, release.reason) == ("expired", "deadline")
    assert [type(action).__name__ for _, _, action, _ in world.events] == ["End"]
