"""A state folder for the console's tests: a real controller's life on drawn traffic, made in seconds."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from tests.simulated_loop import World, quick
from tidegate.controller.reconcile import Ledger, decide

TOKEN = secrets.token_urlsafe(16)
TRIGGERS: dict[str, Any] = {
    "schedule": {"cron": "0 4 28 * *"},
    "performance": {"metric": "roc_auc", "below": 0.6, "window": "2d", "minLabels": 100},
    "drift": {"window": "7d"},
    "cooldown": "1h",
}


def in_canary(folder: Path) -> World:
    """v2 was promoted, v3 aborted by the judge, v4 is in canary against v2."""
    stages = [{"shadow": {"requests": 300}}, {"canary": {"weights": ["20%", "50%"], "requests": 600}}]
    spec = quick().model_dump(mode="json", by_alias=True)["spec"]
    release = {**spec["release"], "stages": stages, "watch": "8h"}
    world = World(folder, quick(triggers=TRIGGERS, release=release), bad=frozenset({"v3"}), per_look=130)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text(TOKEN)
    world.start()
    world.hand_in("v1")
    world.looks(1)
    world.hand_in("v2")
    world.until(lambda state: state.champion.version == "v2" and not _gathers(state))
    world.hand_in("v3")
    world.until(lambda state: state.quarantined)
    world.hand_in("v4")
    world.until(lambda state: state.release["state"] == "canary")
    return world


def _gathers(state: Any) -> bool:
    return state.release is not None and state.release["state"] in ("shadow", "canary", "watch")


def told_of_drift(world: World, findings: list[str]) -> None:
    """Diagnoses at midnights, decided on by the policy as by a controller."""
    for i, finding in enumerate(findings):
        time = (world.state.time // 86400 + 1 - len(findings) + i) * 86400
        ledger = Ledger(world.state, world.model.name)
        decide(ledger, world.model.spec, {"kind": "drift", "time": time, "finding": finding, "labels": 0})
        world.journal.append(world.model.name, ledger.drafts, world.state.seq)


def add_data_versions(folder: Path) -> None:
    """Two data versions, the second with one partition more."""
    for number, months in enumerate((["2013-06"], ["2013-06", "2013-07"])):
        parts = [{"path": f"flights/{m}.parquet", "rows": 1000, "sha256": m[-2:] * 32} for m in months]
        table = {"rows": 1000 * len(parts), "partitions": parts}
        manifest = {"workload": "w:w", "until": "2013-07-01T00:00:00Z", "tables": {"flights": table}}
        name = f"{number}" * 32 + ".dir"
        known = {"version": name, "time": f"2013-07-0{number + 1}T00:00:00Z", "rows": 1000 * len(parts),
                 "files": len(parts), "remote": "r", "dvc": "", "manifest": json.dumps(manifest)}  # fmt: skip
        (folder / "versions").mkdir(exist_ok=True)
        (folder / "versions" / f"{name}.json").write_text(json.dumps(known))
