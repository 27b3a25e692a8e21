"""Online features: the reader against Feast's own call, /predict by key at 500 requests/s on one core, and parity.

The flights of half a year are trained on, versioned and materialized; keys are those of real flights. The reader is
measured alone and while another process feeds the same database. The service is the one that the platform starts,
prediction log on, pinned to the first core; the client has the others.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.load import open_loop
from benchmarks.replica import NAME, _cores, _plan, _service, pinned
from benchmarks.results import ROOT, Budget, Result, say
from demo.story import command
from tidegate.journal.store import open_journal
from tidegate.traffic.openloop import Results

UNTIL = datetime(2013, 7, 1, 4, tzinfo=UTC)
WORKLOAD, MODEL = "flights.workload:flight_delay", ROOT / "k8s/models/flight-delay.yaml"
KEYS, READS, FEAST_READS, PAUSE = 10, 5000, 500, 0.001
RATE, SECONDS, ROUNDS = 500.0, 7.0, 3
Spent = Sequence[float]
Entities = list[dict[str, Any]]

_FEEDER = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
import polars as pl
from tidegate.features.live import live_repo, offline_rows, open_store
from tidegate.features.online_write import write_online
from tidegate.workload import load_workload
name = {workload!r}
known = load_workload(name)
live = live_repo(Path({state!r}), known, name)
store = open_store(live)
views = known.view_definitions()[:3]
batches = [(view, offline_rows(live, view).unique(view.keys, keep="last").tail(30)) for view in views]
print("ready", flush=True)
while True:
    for view, rows in batches:
        write_online(store, view, rows, datetime.now(UTC))
    time.sleep(0.2)
"""


def run() -> Result:
    """Prepare the state, then measure one after the other."""
    with tempfile.TemporaryDirectory(prefix="tidegate-online-") as made:
        state = Path(made)
        digest, entities = prepare(state)
        reads = reader(state, entities)
        steady = by_key(state, digest, entities)
        parity = compared(state)
    return told(reads, steady, parity)


def prepare(state: Path) -> tuple[str, Entities]:
    """Train v1, materialize, and give its digest and the keys of the flights asked about last."""
    from flights.workload import flight_delay
    from tidegate.features.materialize import materialize

    say("online: v1 is trained and materialized (not counted)")
    command("run", str(MODEL), "--until", f"{UNTIL:%Y-%m-%dT%H:%MZ}", "--state", str(state))
    events = open_journal(state).read(NAME)
    digest = next(e.data["digest"] for e in events if e.kind == "register.candidate")
    materialize(WORKLOAD, state)
    tables = flight_delay.source.arrivals(UNTIL)
    fields = ("tailnum", "carrier", "origin", "dest", "distance", "hour", "weekday")
    rows = flight_delay.entities(tables, UNTIL).tail(2000).drop_nulls("tailnum").select(fields)
    return str(digest), rows.to_dicts()


def reader(state: Path, entities: Entities) -> dict[str, Spent]:
    """Milliseconds of each read of `KEYS` keys x 3 views, ours and Feast's; SystemExit when a value differs."""
    from flights.workload import flight_delay
    from tidegate.features.live import live_repo, open_store
    from tidegate.features.online import OnlineReader

    live = live_repo(state, flight_delay, WORKLOAD)
    views = [dataclasses.replace(view, ttl=None) for view in flight_delay.view_definitions()[:3]]
    ours, store = OnlineReader(live.online, live.project, views), open_store(live)
    names = [f"{view.name}:{feature}" for view in views for feature in view.features]
    batches = [entities[start : start + KEYS] for start in range(0, len(entities) - KEYS, KEYS)]
    asked = [[{"origin": row["origin"], "tailnum": row["tailnum"]} for row in batch] for batch in batches]
    for batch in asked:
        found = store.get_online_features(names, batch).to_dict()
        theirs = [{name: found[name][index] for view in views for name in view.features} for index in range(KEYS)]
        if ours.read(batch, UNTIL.timestamp()).values != theirs:
            raise SystemExit("online: the reader's values are not Feast's")
    spent = {"alone": timed(lambda n: ours.read(asked[n % len(asked)], UNTIL.timestamp()), READS)}
    spent["feast"] = timed(lambda n: store.get_online_features(names, asked[n % len(asked)]).to_dict(), FEAST_READS)
    code = _FEEDER.format(workload=WORKLOAD, state=str(state))
    feeder = subprocess.Popen((sys.executable, "-c", code), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert feeder.stdout
        assert feeder.stdout.readline() == "ready\n"
        spent["fed"] = timed(lambda n: ours.read(asked[n % len(asked)], UNTIL.timestamp()), READS)
    finally:
        feeder.kill()
        feeder.wait()
    if ours.failures:
        raise SystemExit(f"online: {ours.failures} reads failed")
    return spent


def timed(call: Callable[[int], object], times: int) -> Spent:
    """Milliseconds of each call; a pause between two, as between requests."""
    spent = []
    for number in range(times):
        began = time.perf_counter()
        call(number)
        spent.append(1000 * (time.perf_counter() - began))
        time.sleep(PAUSE)
    return spent


def by_key(state: Path, digest: str, entities: Entities) -> list[Results]:
    """`ROUNDS` times open loop at `RATE` against the pinned service."""
    from flights.workload import flight_delay
    from tidegate.features.live import live_repo
    from tidegate.targets.local import LocalTarget
    from tidegate.targets.processes import free_port

    live = live_repo(state, flight_delay, WORKLOAD)
    arguments = ("--workload", WORKLOAD, "--online", str(live.online), "--project", live.project)
    bodies = [json.dumps({"keys": [row], "at": UNTIL.timestamp()}).encode() for row in entities]
    first, others = _cores()
    with pinned(others):
        target = LocalTarget(state, model=NAME, port=0, clock="events", control_port=free_port(), services=arguments)
        target.start()
        try:
            with pinned(first):
                target.apply(_plan(digest))
            say(f"online: /predict by key at {RATE:g}/s, {ROUNDS} x {SECONDS:g} s")
            port = _service(state, "v1").port
            return [open_loop(port, bodies, RATE, SECONDS) for _ in range(ROUNDS)]
        finally:
            target.stop()


def compared(state: Path) -> Mapping[str, Any]:
    """`tidegate features parity` over what was logged, and its seconds."""
    began = time.perf_counter()
    words = (sys.executable, "-m", "tidegate.cli", "features", "parity", str(MODEL), "--state", str(state), "--json")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    return {"predictions": report["predictions"], "differing": report["differing"], "s": time.perf_counter() - began}


def quantile(spent: Spent, share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(spent)[min(int(share * len(spent)), len(spent) - 1)]


def told(reads: Mapping[str, Spent], rounds: list[Results], parity: Mapping[str, Any]) -> Result:
    """The result as a table; of the rounds by key the one with the middle p99."""
    steady, failed = sorted(rounds, key=lambda one: one.p99)[len(rounds) // 2], sum(one.failed for one in rounds)
    names = {"alone": "reader", "fed": "reader, the store fed 15 times/s", "feast": "Feast's get_online_features"}
    rows = [
        (name, f"{len(reads[key]):,}", f"{statistics.median(reads[key]):.2f}", f"{quantile(reads[key], 0.99):.2f}")
        for key, name in names.items()
    ]
    rows.append(
        (f"/predict by key at {RATE:g}/s", f"{steady.sent:,}", f"{1000 * steady.p50:.2f}", f"{1000 * steady.p99:.2f}")
    )
    slow = max(quantile(reads[key], 0.99) for key in ("alone", "fed"))
    compared_ = f"{parity['differing']} of {parity['predictions']:,} differ"
    budgets = [
        Budget(f"{KEYS} keys x 3 views, p99", "under 2 ms", f"{slow:.2f} ms", slow < 2),
        Budget("/predict by key, p99", "under 10 ms", f"{1000 * steady.p99:.2f} ms", steady.p99 < 0.010),
        Budget("/predict by key, failed", "none", str(failed), failed == 0),
        Budget("parity", "0 of 10,000 differ", compared_, parity["predictions"] >= 10_000 and not parity["differing"]),
    ]
    notes = [
        f"every value of the reader was Feast's; parity took {parity['s']:.1f} s, process start included.",
        f"by key: the middle of {ROUNDS} rounds; p99 of each: "
        + ", ".join(f"{1000 * one.p99:.1f} ms" for one in rounds)
        + ".",
    ]
    figures = {"reads": {key: [statistics.median(v), quantile(v, 0.99)] for key, v in reads.items()}, "parity": parity}
    figures["by_key"] = {"p50": steady.p50, "p99": [one.p99 for one in rounds], "failed": failed}
    title = f"online features, SQLite, {KEYS} keys x 3 views a read, 1 key x 7 views a request"
    return Result("online", title, ("what", "calls", "p50, ms", "p99, ms"), rows, budgets, notes, figures)
