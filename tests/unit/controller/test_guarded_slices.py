"""Slices and business metrics through the real controller: log, labels over HTTP's intake, journal, judge, replay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.simulated_loop import LOOK, World, answers, digest_of, quick
from tidegate.controller.evidence import recompute
from tidegate.controller.slices import SliceValues, check_slices
from tidegate.errors import UserError
from tidegate.observations import Prediction
from tidegate.spec import Model
from tidegate.train.model_file import folder_name

ORIGINS = ("EWR", "JFK", "LGA")
SCHEMA = (
    '{"features":[{"name":"hour","kind":"numeric","categories":null},'
    '{"name":"origin","kind":"category","categories":["EWR","JFK","LGA"]}]}'
)
STAGES = [{"shadow": {"requests": 300}}, {"canary": {"weights": ["50%"], "requests": 300}}]


def model(**judge) -> Model:
    release = quick().model_dump(mode="json", by_alias=True)["spec"]["release"]
    loss = {"metric": "brier", "margin": 0.05, "slices": ["origin"]}
    return quick(release={**release, "stages": STAGES, "judge": {**release["judge"], "loss": loss, **judge}})


@dataclass
class Airports(World):
    """v2 is right where v1 is a little off, and at LGA (one request in five) it answers the opposite.

    complaints: share of v2's answers that end with a complaint; v1's is .1, None: nobody complains.
    """

    opposite: bool = True
    complaints: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for version in ("v1", "v2"):
            folder = self.folder / "models" / folder_name(digest_of(version))
            folder.mkdir(parents=True)
            (folder / "feature_schema.json").write_text(SCHEMA)

    def _traffic(self) -> None:
        draw, seen = np.random.default_rng((self.seed, int(self.now))), self.target.observe()
        at = np.sort(draw.uniform(self.now, self.now + LOOK, self.per_look))
        for time, arm, chance, place, truth, cross in zip(at, *draw.random((5, self.per_look)), strict=True):
            self.asked += 1
            served, origin = "", ORIGINS[2 if place < 0.2 else int(place > 0.6)]
            for version, share, by in answers(seen, arm):
                score = self._score(by, origin, float(chance))
                self.writer.append(
                    Prediction(
                        f"q{self.asked}/0", float(time), 0.0, by, digest_of(by), version, share,
                        seen.release or None, score, False, 5.0, [7.0, origin],
                    )
                )  # fmt: skip
                served = version
            told = {"request_id": f"q{self.asked}", "outcome": "observed", "time": float(time) + 3600}
            self._due.append((told["time"], {**told, "value": float(truth < chance)}))
            if self.complaints is not None:
                rate = self.complaints if served == "v2" else 0.1
                self._due.append((told["time"], {**told, "metric": "complaint", "value": float(cross < rate)}))
        self.writer.flush()

    def _score(self, by: str, origin: str, chance: float) -> float:
        if by == "v2":
            return 1 - chance if origin == "LGA" and self.opposite else chance
        return chance if origin == "LGA" else min(1.0, max(0.0, chance + (0.3 if chance < 0.5 else -0.3)))


def started(world: World) -> World:
    world.start()
    world.hand_in("v1")
    world.until(lambda state: state.champion)
    world.hand_in("v2")
    return world


def ended(world: World):
    return world.until(lambda state: state.release and state.release["state"] in ("aborted", "watch", "promoted"))


def last_judgement(world: World) -> dict:
    return [e.data["judgement"] for e in world.journal.read("quick") if e.data.get("judgement")][-1]


def test_much_worse_on_one_slice_is_aborted_though_better_on_average(tmp_path) -> None:
    world = started(Airports(tmp_path, model=model()))
    state = ended(world)
    assert (state.release["state"], state.release["reason"]) == ("aborted", "proved_worse")
    assert state.release["sentence"].startswith("proved worse than the champion: loss[origin=LGA] +")
    checks = last_judgement(world)["checks"]
    assert checks["loss[origin=EWR]"]["upper"] < 0.05
    assert checks["loss[origin=LGA]"]["lower"] > 0 > checks["loss[origin=EWR]"]["estimate"]
    assert recompute(tmp_path, world.journal.read("quick"))["evidence"] > 0


def test_a_better_loss_and_a_worse_business_metric_is_aborted_on_the_split(tmp_path) -> None:
    metrics = [{"name": "complaint", "margin": 0.05, "bound": 1.0}]
    world = started(Airports(tmp_path, model=model(metrics=metrics), opposite=False, complaints=0.6))
    state = ended(world)
    assert (state.release["state"], state.release["reason"]) == ("aborted", "proved_worse")
    assert state.release["sentence"].startswith("proved worse than the champion: complaint +")
    assert state.release["proofs"]["loss"]["estimate"] < 0
    assert last_judgement(world)["place"] == "split"
    assert recompute(tmp_path, world.journal.read("quick"))["evidence"] > 0


def test_without_either_fault_it_is_promoted(tmp_path) -> None:
    metrics = [{"name": "complaint", "margin": 0.2, "bound": 1.0}]
    world = started(Airports(tmp_path, model=model(metrics=metrics), opposite=False, complaints=0.1))
    assert ended(world).release["state"] == "watch"


def test_a_row_that_does_not_hold_the_column_is_a_value_of_its_own(tmp_path) -> None:
    Airports(tmp_path)
    (value,) = SliceValues(tmp_path, "flights.workload:flight_delay").readers(["origin"])

    def row(features) -> Prediction:
        return Prediction("q/0", 0.0, 0.0, "v1", digest_of("v1"), "v1", 1.0, "r", 0.5, False, 1.0, features)

    assert [value(row(features)) for features in ([7.0, "LGA"], [7.0, None], [])] == ["LGA", "?", "?"]


def test_a_slice_that_rows_do_not_tell_is_refused_at_the_start() -> None:
    check_slices(model())
    with pytest.raises(UserError, match="got 'carrier_size', takes a slice of the workload that is a feature: carrier"):
        check_slices(model(loss={"metric": "brier", "margin": 0.05, "slices": ["carrier_size"]}))
    document = model().model_dump(mode="json", by_alias=True)
    document["spec"]["training"]["retain"] = False
    with pytest.raises(UserError, match="none where training"):
        check_slices(Model.model_validate(document))
