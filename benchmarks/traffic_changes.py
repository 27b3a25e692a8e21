"""A hundred changes of traffic under load, through Envoy and real services: who was lost, who was sent where.

Shadows, weights, three arms with a cookie, splits by region, aborts and promotions follow each other as fast as the
target takes them. Every answer and every logged row is held against the plan that was in force.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

from benchmarks.results import Budget, Result, say
from tidegate.observations import Prediction, SegmentReader
from tidegate.release.plan import Backend, Plan, Regions
from tidegate.targets.local import LocalTarget
from tidegate.targets.processes import wait_until
from tidegate.targets.routes import rules
from tidegate.traffic.openloop import Answer, OpenLoop

MODEL, RATE, CHANGES, EACH = "flight-delay", 500.0, 100, 60
"""Requests a second; changes; the least number of requests between two changes."""
BODY = b'{"rows":[{"distance":1,"carrier":"UA"}],"at":%d}'
ALLOWED = 4.5
"""Standard deviations that a share may be off."""


def hundred_plans(digests: Mapping[str, str], changes: int = CHANGES) -> Iterator[Plan]:
    """Releases one after the other: shadow, weights, a cookie, regions, then an abort or a promotion."""
    names = cycle(["v1", "v1.1", "v2"])
    champion, weights = next(names), cycle([0.01, 0.05, 0.25, 0.5, 0.333, 0.9])
    for number in range(changes):
        release, turn = f"r{number}", number % 12
        if turn == 0:
            challenger = next(name for name in names if name != champion)
            third = next(name for name in ("v1", "v1.1", "v2") if name not in (champion, challenger))
        backends = tuple(Backend(name, digests[name]) for name in (champion, challenger, third))
        plan = Plan(MODEL, backends, ((champion, 1.0),))
        weight = next(weights)
        split = ((champion, 1 - weight), (challenger, weight))
        if turn in (0, 4):
            yield replace(plan, mirrors=(challenger,), release=release)
        elif turn in (5, 6):
            yield replace(plan, split=((champion, 0.5), (challenger, 0.3), (third, 0.2)), release=release, sticky="arm")
        elif turn in (7, 8):
            regions = Regions("x-region", (("us", ((champion, 0.5), (challenger, 0.5))), ("eu", split)))
            yield replace(plan, split=split, regions=regions, release=release)
        elif turn == 11:
            champion = challenger if number % 24 == 23 else champion
            yield replace(plan, split=((champion, 1.0),))
        else:
            yield replace(plan, split=split, release=release)


@dataclass(frozen=True)
class Seen:
    """Everything of one run: what was sent, answered and logged."""

    plans: list[Plan]
    sent: int
    errors: Counter[str]
    answers: list[Answer]
    rows: list[Prediction]

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(answer.status != 200 for answer in self.answers) + self.sent - len(self.answers)

    @property
    def served(self) -> dict[str, Prediction]:
        """The rows of answers that users got, by request id."""
        return {row.request_id: row for row in self.rows if row.version == row.arm}


def shares(plan: Plan) -> dict[str, float]:
    """What a request without cookie and region is drawn with."""
    last = rules(plan)[-1]
    return {entry.version: float(dict(entry.sets)["x-tidegate-propensity"]) for entry in last.entries}


def play(target: LocalTarget, state: Path, plans: list[Plan], rate: float, each: int) -> Seen:
    """Apply the plans one after the other under load, and read the log once it is complete."""
    target.apply(plans[0])
    client, answers = asyncio.run(_under_load(target, plans, rate, each))
    reader, rows = SegmentReader(state / "observations" / "predictions"), []
    mirrors = {plan.release: len(plan.mirrors) for plan in plans if plan.release}

    def complete() -> bool:
        target.mark(1e9)
        rows.extend(row for row in reader.read() if isinstance(row, Prediction))
        copies = sum(mirrors.get(row.release or "", 0) for row in rows if row.version == row.arm)
        return len(rows) >= client.sent + copies

    wait_until(complete, 20, every=0.05)
    return Seen(plans, client.sent, client.errors, answers, rows)


async def _under_load(target: LocalTarget, plans: list[Plan], rate: float, each: int) -> tuple[OpenLoop, list[Answer]]:
    answers: list[Answer] = []
    client = OpenLoop("127.0.0.1", target.port, answers.append)

    def change() -> None:
        for number, wanted in enumerate(plans):
            target.apply(wanted)
            wait_until(lambda number=number: client.sent >= number * each, 60, every=0.005)  # type: ignore[misc]

    changing = asyncio.create_task(asyncio.to_thread(change))

    def schedule() -> Iterator[tuple[float, str, bytes]]:
        number = 0
        while not changing.done():
            yield number / rate, "/predict", BODY % number
            number += 1

    await client.run(schedule(), ahead=20)
    await changing
    client.close()
    return client, answers


def off(seen: Seen) -> dict[str, float]:
    """By version: by how many standard deviations the share seen is off the propensities logged."""
    by_release = {plan.release: shares(plan) for plan in seen.plans if plan.release}
    found = {}
    for version in ("v1", "v1.1", "v2"):
        drawn = [row for row in seen.served.values() if row.release]
        weights = [by_release[row.release or ""].get(version, 0.0) for row in drawn]
        deviation = math.sqrt(sum(weight * (1 - weight) for weight in weights))
        found[version] = (sum(row.version == version for row in drawn) - sum(weights)) / max(deviation, 1e-9)
    return found


def mislogged(seen: Seen) -> int:
    """Rows whose header is not what the plan of their release draws with."""
    by_release = {plan.release: plan for plan in seen.plans if plan.release}
    wrong = 0
    for row in seen.rows:
        plan = by_release.get(row.release or "")
        if plan is None:
            wrong += row.release is not None or row.propensity != 1.0 or row.arm != row.version
        else:
            right = row.propensity == shares(plan).get(row.arm or "")
            wrong += not right or (row.version != row.arm and row.version not in plan.mirrors)
    return wrong


def run() -> Result:
    """Both figures at `RATE`."""
    from tests.tiny_models import write_model

    with tempfile.TemporaryDirectory(prefix="tidegate-changes-") as made:
        state = Path(made)
        (state / "token").write_text("secret")
        digests = {
            name: write_model(state / "models", bias) for name, bias in (("v1", 0.1), ("v1.1", 0.2), ("v2", 0.3))
        }
        target = LocalTarget(state, model=MODEL, port=0, clock="events", control_port=9)
        try:
            target.start()
            say(f"traffic_changes: {CHANGES} changes at {RATE:g} requests/s")
            return told(play(target, state, list(hundred_plans(digests)), RATE, EACH))
        finally:
            target.stop()


def told(seen: Seen) -> Result:
    """The result as a table."""
    worst = max(map(abs, off(seen).values()))
    latencies = sorted(answer.latency for answer in seen.answers)
    p50, p99 = (1000 * latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.99))
    rows = [
        ("changes", str(len(seen.plans))),
        ("requests sent", f"{seen.sent:,}"),
        ("failed", str(seen.failed)),
        ("rows logged", f"{len(seen.rows):,}"),
        ("rows that are not as their plan", str(mislogged(seen))),
        ("share off the propensity, standard deviations", ", ".join(f"{v} {x:+.1f}" for v, x in off(seen).items())),
        ("p50, p99 from the due time", f"{p50:.1f}, {p99:.1f} ms"),
    ]
    budgets = [
        Budget("requests failed in a hundred changes", "0", str(seen.failed), seen.failed == 0),
        Budget("the share seen agrees with the propensity", f"{ALLOWED} deviations", f"{worst:.1f}", worst <= ALLOWED),
        Budget("every row as its plan", "0 others", str(mislogged(seen)), mislogged(seen) == 0),
    ]
    figures = {"sent": seen.sent, "failed": seen.failed, "off": off(seen)}
    return Result("traffic_changes", f"{CHANGES} changes of traffic at {RATE:g} requests/s", ("what", "seen"), rows,
                  budgets, (), figures)  # fmt: skip
