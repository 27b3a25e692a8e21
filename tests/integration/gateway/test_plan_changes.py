"""A hundred changes of traffic under load: nothing fails, nothing is lost, and what is logged is what was in force."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from contract.target import plan

from demo.openloop import Answer, OpenLoop
from tidegate.observations import Prediction, SegmentReader
from tidegate.release.plan import Plan
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import wait_until
from tidegate.targets.routes import TOTAL, entries

RATE, CHANGES, EACH = 200.0, 100, 20
"""Requests a second; changes; the least number of requests between two changes."""


def hundred_plans(digests: dict[str, str]) -> Iterator[Plan]:
    """Four releases: shadow, many weights, promotion."""
    names = cycle(["v1", "v1.1", "v2"])
    champion = next(names)
    weights = cycle([0.01, 0.05, 0.25, 0.5, 0.333, 0.9])
    for number in range(CHANGES):
        release, step = f"r{number}", number % 25
        if step == 0:
            challenger = next(names)
            yield plan(digests, {champion: 1.0}, mirrors=(challenger,), release=release)
        elif step == 24:
            yield plan(digests, {challenger: 1.0}, release=release)
            champion = challenger
        elif step % 6 == 5:
            yield plan(digests, {champion: 1.0}, mirrors=(challenger,), release=release)
        else:
            weight = next(weights)
            yield plan(digests, {champion: 1 - weight, challenger: weight}, release=release)


async def under_load(target: LocalTarget, plans: list[Plan]) -> tuple[OpenLoop, list[Answer]]:
    answers: list[Answer] = []
    client = OpenLoop("127.0.0.1", target.port, answers.append)

    def change() -> None:
        for number, wanted in enumerate(plans):
            target.apply(wanted)
            wait_until(lambda number=number: client.sent >= number * EACH, 20, every=0.005)

    changing = asyncio.create_task(asyncio.to_thread(change))

    def schedule() -> Iterator[tuple[float, str, bytes]]:
        number = 0
        while not changing.done():
            yield number / RATE, "/predict", b'{"rows":[{"distance":1,"carrier":"UA"}],"at":%d}' % number
            number += 1

    await client.run(schedule(), ahead=20)
    await changing
    client.close()
    return client, answers


def test_a_hundred_changes_under_load(target: LocalTarget, state: Path, digests: dict[str, str]) -> None:
    plans = list(hundred_plans(digests))
    target.apply(plans[0])
    client, answers = asyncio.run(under_load(target, plans))
    by_release = {wanted.release: wanted for wanted in plans}
    in_force = {w.release: {entry.version: entry.weight / TOTAL for entry in entries(w)} for w in plans}
    assert not client.errors
    assert client.sent == len(answers) >= (CHANGES - 1) * EACH
    assert Counter(answer.status for answer in answers) == {200: client.sent}

    reader = SegmentReader(state / "observations" / "predictions")
    rows: list[Prediction] = []

    def complete() -> bool:
        target.mark(1e9)
        rows.extend(reader.read())
        mirrored = sum(len(by_release[row.release].mirrors) for row in rows if row.version == row.arm)
        return len(rows) >= client.sent + mirrored

    assert wait_until(complete, 15, every=0.05)
    served = {row.request_id: row for row in rows if row.version == row.arm}
    copies = [row for row in rows if row.version != row.arm]
    assert len(served) == client.sent
    assert len(rows) == client.sent + len(copies)
    for answer in answers:
        row = served[f"{answer.request_id}/0"]
        assert answer.model == f"flight-delay@{row.version}"
        assert row.time == answer.tag
    for row in rows:
        wanted = by_release[row.release]
        assert row.propensity == in_force[row.release][row.arm]
        assert row.version == row.arm or row.version in wanted.mirrors
    # every request of a plan with a mirror was copied, once
    assert Counter(row.request_id for row in copies) == Counter(
        row.request_id for row in served.values() for _ in by_release[row.release].mirrors
    )
    # the split that was seen is the split that was asked for
    for version in ("v1", "v1.1", "v2"):
        weights = [in_force[row.release].get(version, 0.0) for row in served.values()]
        seen = sum(row.version == version for row in served.values())
        deviation = math.sqrt(sum(weight * (1 - weight) for weight in weights))
        assert abs(seen - sum(weights)) <= 4.5 * deviation + 1e-6
    assert dict(target.observe().split) == in_force[plans[-1].release]
    reader.expect(target.writers())
    assert reader.watermark == 1e9
