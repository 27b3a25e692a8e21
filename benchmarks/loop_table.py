"""What the loop benchmark found, as a table with budgets. Pure but for the Model file's stages."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.phases import Story
from benchmarks.results import Budget, Result
from demo.story import ROOT
from tidegate.journal.views import iso
from tidegate.release.stages import requests_wanted, steps_of
from tidegate.spec import load_model
from tidegate.traffic.replay import Tally

MODEL = ROOT / "k8s/models/flight-delay.yaml"
RATE = 500.0
COLUMNS = ("part", "seconds", "our work", "waiting for evidence", "event days")


@dataclass(frozen=True)
class Played:
    """What was seen: the story, the traffic in all, how many answers came before the stretch, rows in the log."""

    story: Story
    tally: Tally
    before: int
    rows: int

    def latency(self, quantile: float) -> float:
        """Milliseconds from the scheduled time, of the stretch's requests."""
        return Tally(latencies=self.tally.latencies[self.before :]).latency(quantile)


def told(played: Played) -> Result:
    """The result as table, budgets and notes."""
    found, tally = played.story, played.tally
    lost = tally.sent - tally.statuses[200]
    budgets = (
        Budget("new data to 100 % of traffic", "under 60 s", f"{found.seconds:.1f} s", found.seconds < 60),
        Budget("of it our work", "aim: under 20 s", f"{found.work:.1f} s", found.work < 20),
        Budget("requests lost", "0", f"{lost} of {tally.sent}", lost == 0 and played.rows == tally.sent),
    )
    title = "new data on disk -> 100 % of traffic on the retrained model"
    return Result("loop", title, COLUMNS, _rows(found), budgets, _notes(played), _figures(played))


def _rows(found: Story) -> list[tuple[str, ...]]:
    first, *others = found.phases
    rest = first.seconds - sum(spent for _, spent in found.steps)
    parts = [(f"  {name}", f"{spent:.2f}", f"{spent:.2f}", "", "") for name, spent in found.steps]
    parts.append(("  register's event, kfp, processes", f"{rest:.2f}", f"{rest - first.waiting:.2f}", "", ""))
    total = ("in all", found.seconds, found.work, found.seconds - found.work, sum(p.event_days for p in found.phases))
    lines = [(p.name, p.seconds, p.work, p.waiting, p.event_days) for p in (first, *others)]
    rows = [(name, *(f"{value:.2f}" for value in values)) for name, *values in (*lines, total)]
    return [rows[0], *parts, *rows[1:]]


def _notes(played: Played) -> list[str]:
    found, tally = played.story, played.tally
    reason = found.decided.data["decision"]["reason"]
    inside = len(tally.latencies) - played.before
    return [
        f"verdict: {found.version} was promoted; its run: {reason}, at {iso(found.decided.time)} of event time.",
        "how it was chosen: v1 is trained up to 1 July, all flights from 1 July on are asked about, and it is the "
        "first run that the committed file's triggers ask for. That the model gate passes it is the data's doing: it "
        "refuses other runs of the same year, and a refused one is another story, in which nothing is released.",
        f"traffic: {tally.sent} requests at {RATE:g}/s open loop, {tally.answered} answered, {tally.failed} failed, "
        f"{played.rows} rows in the log; {inside} of them in the stretch, p50 {played.latency(0.5):.1f} ms, "
        f"p99 {played.latency(0.99):.1f} ms from the scheduled time; {tally.labels} labels when due.",
        "our work: wall time in which the replay stood still because a run or a start-up was at work; waiting for "
        f"evidence: wall time in which traffic flowed, for the {_wanted():,} requests that the stages ask for at least "
        "and for the day after which their labels are due."
        + (
            f" MLflow was told until {found.ended - found.phases[1].start:.1f} s after the event."
            if found.ended
            else ""
        ),
    ]


def _wanted() -> int:
    """Requests that the Model file's stages ask for together."""
    stages = load_model(MODEL).spec.release.stages
    return sum(requests_wanted(stage) * steps_of(stage) for stage in stages)


def _figures(played: Played) -> dict[str, object]:
    found, tally = played.story, played.tally
    return {
        "seconds": found.seconds,
        "work_seconds": found.work,
        "phases": [phase.__dict__ for phase in found.phases],
        "steps": found.steps,
        "sent": tally.sent,
        "answered": tally.answered,
        "failed": tally.failed,
        "rows": played.rows,
        "p50_ms": played.latency(0.5),
        "p99_ms": played.latency(0.99),
        "version": found.version,
        "cause": found.cause,
    }
