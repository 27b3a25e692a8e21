"""docs/trigger.md's table, evaluated by brute force, agrees with the policy on random streams of events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.spec import TriggersSpec
from tidegate.trigger.events import event_of
from tidegate.trigger.policy import TriggerState, decide
from tidegate.trigger.replay import replay

START = datetime(2013, 2, 6, tzinfo=UTC)
GRAVITY = ["domain_shift", "data_drift", "concept_drift"]
PRIORITY = ["manual", "code", "drift", "performance", "volume", "schedule"]


def field_matches(text: str, value: int) -> bool:
    for part in text.split(","):
        base, _, step = part.partition("/")
        if base == "*":
            if value % int(step or 1) == 0:
                return True
        elif value == int(base):
            return True
    return False


def cron_matches(cron: str, minute: datetime) -> bool:
    fields = [minute.minute, minute.hour, minute.day, minute.month, minute.isoweekday() % 7]
    return all(field_matches(text, value) for text, value in zip(cron.split(), fields, strict=True))


class Oracle:
    """The table, rule by rule, with the cron looked at minute by minute. Knows nothing of the policy's code."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.held: set[str] = set()
        self.found: list[str] = []
        self.disarmed: set[str] = set()
        self.starts: list[float] = []
        self.last_tick = self.used = self.cooldown_begin = None
        self.matured = self.region = 0
        self.skew = self.in_flight = self.release = False

    def tick(self, event: dict[str, Any]) -> None:
        now = event["time"]
        begin = now // 60 * 60 - 1 if self.last_tick is None else self.last_tick
        self.last_tick = now
        schedule = self.spec.get("schedule")
        if not schedule:
            return
        minute = (begin // 60 + 1) * 60
        while minute <= now:
            at = datetime.fromtimestamp(minute, UTC)
            if cron_matches(schedule["cron"], at):
                self.held.add("schedule")
            for one in schedule.get("events", ()):
                start, end = datetime.fromisoformat(one["from"]), datetime.fromisoformat(one["to"])
                if start <= at < end and cron_matches(one["cron"], at):
                    self.held.add("schedule")
            minute += 60

    def rows(self, event: dict[str, Any]) -> None:
        self.matured += event["count"]

    def fire(self, cause: str) -> None:
        if cause not in self.disarmed:
            self.held.add(cause)
            self.disarmed.add(cause)

    def metric(self, event: dict[str, Any]) -> None:
        rule = self.spec.get("performance")
        if not rule or rule["metric"] != event["name"] or event["labels"] < rule["minLabels"]:
            return
        up = event["name"] == "roc_auc"
        bad = event["upper"] < rule["below"] if up else event["lower"] > rule["below"]
        good = event["value"] >= rule["below"] if up else event["value"] <= rule["below"]
        if bad:
            self.fire("performance")
        elif good:
            self.disarmed.discard("performance")

    def drift(self, event: dict[str, Any]) -> None:
        finding, rule = event["finding"], self.spec.get("drift")
        if rule and finding == "domain_shift":
            self.region += event["labels"]
        if rule and (finding in GRAVITY[1:] or (finding == "domain_shift" and self.region >= rule["minLabels"])):
            self.fire("drift")
            self.found.append(finding)
        if finding == "none":
            self.disarmed.discard("drift")
            self.region = 0
        if finding != "not_assessable":
            self.skew = finding == "skew"

    def run_finished(self, event: dict[str, Any]) -> None:
        if self.in_flight:
            self.cooldown_begin = event["time"]
        self.in_flight = False
        self.disarmed.clear()
        if event["ok"]:
            self.used, self.matured, self.region = event["rows"], 0, 0

    def release_(self, event: dict[str, Any]) -> None:
        self.release = event["open"]
        if event["promoted"]:
            self.held -= {"performance", "drift"}
            self.disarmed.clear()
            self.region = 0

    def request(self, event: dict[str, Any]) -> None:
        self.held.add(event["cause"])

    def mode(self, causes: list[str]) -> str:
        if causes[0] != "drift":
            return "auto"
        return {"data_drift": "stateful", "concept_drift": "recent"}.get(max(self.found, key=GRAVITY.index), "auto")

    def answer(self, event: dict[str, Any]) -> tuple[str, list[str], str | None]:
        if "drift" not in self.held:
            self.found = []
        getattr(self, "release_" if event["kind"] == "release" else event["kind"])(event)
        now = event["time"]
        held = set(self.held)
        share = self.spec.get("volume")
        if share and self.used is not None and not self.in_flight and self.matured > 0:
            percent = int(share["increase"].rstrip("%"))
            if self.matured * 100 >= percent * self.used:
                held.add("volume")
        urgent = held & {"manual", "code"}
        cooldown = self.spec["cooldown_seconds"]
        today = sum(
            datetime.fromtimestamp(s, UTC).date() == datetime.fromtimestamp(now, UTC).date() for s in self.starts
        )
        if not held or self.in_flight:
            start = False
        elif urgent:
            start = True
            held = urgent if self.skew else held
        elif self.skew or self.release or (self.cooldown_begin is not None and now < self.cooldown_begin + cooldown):
            start = False
        else:
            start = today < self.spec["budget"]["runsPerDay"]
        if start:
            self.in_flight = True
            self.starts.append(now)
            self.held -= held
        causes = sorted(held, key=PRIORITY.index)
        return ("retrain" if start else "wait"), causes, self.mode(causes) if start else None


crons = st.sampled_from(["0 4 * * *", "*/30 * * * *", "15 0,12 * * 1,3,5", "0 0 8 2 *"])
instants = st.integers(0, 4 * 24 * 4).map(lambda quarter: START + timedelta(minutes=15 * quarter))


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    cooldown = draw(st.sampled_from([0, 600, 3600]))
    spec: dict[str, Any] = {
        "cooldown": f"{cooldown}s",
        "cooldown_seconds": cooldown,
        "budget": {"runsPerDay": draw(st.integers(1, 4))},
    }
    if draw(st.booleans()):
        spec["schedule"] = {"cron": draw(crons)}
        if draw(st.booleans()):
            start, length = draw(instants), draw(st.integers(1, 100))
            end = start + timedelta(minutes=15 * length)
            event = {"name": "storm", "from": start.isoformat(), "to": end.isoformat(), "cron": "*/10 * * * *"}
            spec["schedule"]["events"] = [event]
    if draw(st.booleans()):
        spec["volume"] = {"increase": draw(st.sampled_from(["1%", "5%", "50%"]))}
    if draw(st.booleans()):
        metric = draw(st.sampled_from(["roc_auc", "log_loss", "brier"]))
        spec["performance"] = {"metric": metric, "below": 0.5, "window": "7d", "minLabels": 100}
    if draw(st.booleans()):
        spec["drift"] = {"window": "7d", "minLabels": draw(st.sampled_from([1, 50, 200]))}
    return spec


values = st.integers(30, 70).map(lambda percent: percent / 100)
bodies = st.one_of(
    st.just({"kind": "tick"}),
    st.just({"kind": "tick"}),
    st.builds(lambda n: {"kind": "rows", "count": n}, st.integers(0, 40)),
    st.builds(
        lambda name, bounds, labels: {
            "kind": "metric",
            "name": name,
            "labels": labels,
            "lower": min(bounds),
            "value": sorted(bounds)[1],
            "upper": max(bounds),
        },
        st.sampled_from(["roc_auc", "log_loss", "brier"]),
        st.tuples(values, values, values),
        st.sampled_from([99, 100, 500]),
    ),
    st.builds(
        lambda finding, labels: {"kind": "drift", "finding": finding, "labels": labels},
        st.sampled_from(["none", "data_drift", "concept_drift", *["domain_shift"] * 2, "skew", "not_assessable"]),
        st.integers(0, 60),
    ),
    st.builds(
        lambda ok, rows: {"kind": "run_finished", "ok": ok, "rows": rows, "run": "r"},
        st.booleans(),
        st.integers(0, 1000),
    ),
    st.builds(lambda o, p: {"kind": "release", "open": o, "promoted": p and not o}, st.booleans(), st.booleans()),
    st.builds(lambda cause: {"kind": "request", "cause": cause}, st.sampled_from(["manual", "code"])),
)
gaps = st.one_of(st.sampled_from([0, 0, 1, 59, 60, 599, 600, 3600]), st.integers(0, 20_000))


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    time, events = START.timestamp() + draw(st.integers(0, 90_000)), []
    for gap, body in draw(st.lists(st.tuples(gaps, bodies), min_size=1, max_size=40)):
        time += gap
        events.append({"time": time, **body})
    return events


def parse(spec: dict[str, Any]) -> TriggersSpec:
    return TriggersSpec.model_validate({name: part for name, part in spec.items() if name != "cooldown_seconds"})


@settings(max_examples=1000, deadline=None)
@given(specs(), streams())
def test_the_policy_is_the_table(spec: dict[str, Any], events: list[dict[str, Any]]) -> None:
    oracle = Oracle(spec)
    expected = [oracle.answer(event) for event in events]
    answers = list(replay(events, parse(spec)))
    assert [(one["decision"], one["causes"], one.get("mode")) for one in answers] == expected


@settings(max_examples=100, deadline=None)
@given(specs(), streams())
def test_every_decision_is_recomputed_from_its_recorded_state(
    spec: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    triggers, state = parse(spec), TriggerState()
    for document in events:
        event = event_of(document)
        again = TriggerState.from_json(state.to_json())
        assert again == state
        assert decide(triggers, again, event) == decide(triggers, state, event)
        state, _ = decide(triggers, state, event)


@settings(max_examples=100, deadline=None)
@given(specs(), streams())
def test_never_two_runs_at_once_and_never_more_than_the_budget(
    spec: dict[str, Any], events: list[dict[str, Any]]
) -> None:
    events = [event for event in events if event["kind"] != "request"]
    flying, by_day = False, {}
    for event, answer in zip(events, replay(events, parse(spec)), strict=True):
        flying = flying and event["kind"] != "run_finished"
        if answer["decision"] == "retrain":
            assert not flying
            flying = True
            day = event["time"] // 86400
            by_day[day] = by_day.get(day, 0) + 1
    assert all(count <= spec["budget"]["runsPerDay"] for count in by_day.values())
