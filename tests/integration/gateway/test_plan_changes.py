"""A hundred changes of traffic under load: nothing fails, nothing is lost, and what is logged is what was in force."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.traffic_changes import ALLOWED, CHANGES, hundred_plans, mislogged, off, play, shares
from tidegate.targets.local import LocalTarget

RATE, EACH = 200.0, 20


def test_a_hundred_changes_under_load(target: LocalTarget, state: Path, digests: dict[str, str]) -> None:
    plans = list(hundred_plans(digests))
    assert {bool(plan.sticky) for plan in plans} == {bool(plan.regions) for plan in plans} == {True, False}
    seen = play(target, state, plans, RATE, EACH)
    assert not seen.errors
    assert seen.sent == len(seen.answers) >= (CHANGES - 1) * EACH
    assert Counter(answer.status for answer in seen.answers) == {200: seen.sent}
    served, copies = seen.served, [row for row in seen.rows if row.version != row.arm]
    assert len(served) == seen.sent
    assert len(seen.rows) == seen.sent + len(copies)
    for answer in seen.answers:
        row = served[f"{answer.request_id}/0"]
        assert answer.model == f"flight-delay@{row.version}"
        assert row.time == answer.tag
    assert mislogged(seen) == 0
    # every request of a plan with a mirror was copied, once
    mirrors = {plan.release: plan.mirrors for plan in plans if plan.release}
    assert Counter(row.request_id for row in copies) == Counter(
        row.request_id for row in served.values() for _ in mirrors.get(row.release, ())
    )
    assert all(abs(deviations) <= ALLOWED for deviations in off(seen).values())
    assert dict(target.observe().split) == shares(plans[-1])
