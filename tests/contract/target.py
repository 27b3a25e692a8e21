"""What every `Target` must do. A backend's test inherits `TargetContract`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidegate.errors import PlatformError
from tidegate.release.plan import Backend, Plan, Regions
from tidegate.targets.base import Observed, Target

BROKEN = "v9"
"""A version that never becomes ready."""


def plan(digests: dict[str, str], split: dict[str, float], mirrors: tuple[str, ...] = (), release: str = "") -> Plan:
    backends = tuple(Backend(version, digests[version]) for version in (*split, *mirrors))
    return Plan("flight-delay", backends, tuple(split.items()), mirrors, release)


def ready(observed: Observed) -> dict[tuple[str, str], int]:
    return {(running.version, running.digest): running.ready for running in observed.running if running.ready}


class TargetContract:
    """`target` and `digests` (of v1, v1.1, v2 and `BROKEN`) are fixtures of the backend's test."""

    def test_a_first_version_runs_and_has_all_traffic(self, target: Target, digests: dict[str, str]) -> None:
        target.apply(plan(digests, {"v1": 1.0}))
        observed = target.observe()
        assert ready(observed) == {("v1", digests["v1"]): 1}
        assert (observed.split, observed.mirrors, observed.release) == ((("v1", 1.0),), (), "")

    def test_a_release_goes_from_shadow_over_weights_to_everything(
        self, target: Target, digests: dict[str, str]
    ) -> None:
        target.apply(plan(digests, {"v1": 1.0}))
        target.apply(plan(digests, {"v1": 1.0}, mirrors=("v1.1",), release="r1"))
        observed = target.observe()
        assert set(ready(observed)) == {("v1", digests["v1"]), ("v1.1", digests["v1.1"])}
        assert (observed.split, observed.mirrors, observed.release) == ((("v1", 1.0),), ("v1.1",), "r1")
        for weight in (0.01, 0.05, 0.25, 0.5):
            target.apply(plan(digests, {"v1": 1 - weight, "v1.1": weight}, release="r1"))
            assert dict(target.observe().split) == pytest.approx({"v1": 1 - weight, "v1.1": weight})
            assert target.observe().mirrors == ()
        target.apply(plan(digests, {"v1.1": 1.0}))
        observed = target.observe()
        assert ready(observed) == {("v1.1", digests["v1.1"]): 1}
        assert (observed.split, observed.release) == ((("v1.1", 1.0),), "")

    def test_cookies_and_regions_are_seen_as_they_were_asked_for(self, target: Target, digests: dict[str, str]) -> None:
        three = plan(digests, {"v1": 0.5, "v1.1": 0.3, "v2": 0.2}, release="r1")
        target.apply(replace(three, sticky="tidegate-arm"))
        observed = target.observe()
        assert (dict(observed.split), observed.sticky, observed.regions) == (dict(three.split), "tidegate-arm", None)
        regions = Regions("x-region", (("us", (("v1", 0.5), ("v1.1", 0.5))), ("eu", (("v1", 0.99), ("v1.1", 0.01)))))
        target.apply(replace(three, split=(("v1", 1.0),), regions=regions))
        observed = target.observe()
        assert (observed.split, observed.sticky, observed.regions) == ((("v1", 1.0),), "", regions)
        assert (observed.release, observed.mirrors, observed.merge) == ("r1", (), ())

    def test_the_same_plan_again_changes_nothing(self, target: Target, digests: dict[str, str]) -> None:
        wanted = plan(digests, {"v1": 0.75, "v2": 0.25}, release="r1")
        target.apply(wanted)
        before = target.observe()
        target.apply(wanted)
        assert target.observe() == before

    def test_a_version_that_does_not_become_ready_changes_no_traffic(
        self, target: Target, digests: dict[str, str]
    ) -> None:
        target.apply(plan(digests, {"v1": 1.0}))
        before = target.observe()
        with pytest.raises(PlatformError, match=BROKEN):
            target.apply(plan(digests, {"v1": 0.5, BROKEN: 0.5}, release="r1"))
        assert target.observe() == before

    def test_replicas_are_counted(self, target: Target, digests: dict[str, str]) -> None:
        for replicas in (2, 1):
            backends = (Backend("v1", digests["v1"], replicas),)
            target.apply(Plan("flight-delay", backends, (("v1", 1.0),)))
            assert ready(target.observe()) == {("v1", digests["v1"]): replicas}

    def test_a_version_in_no_split_still_runs(self, target: Target, digests: dict[str, str]) -> None:
        backends = (Backend("v1", digests["v1"]), Backend("v2", digests["v2"]))
        target.apply(Plan("flight-delay", backends, (("v1", 1.0),)))
        assert set(ready(target.observe())) == {("v1", digests["v1"]), ("v2", digests["v2"])}
