"""`tidegate evaluate freshness` on the first weeks of the flights: the real steps, real models, the page."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WORDS = ("--until", "2013-03-12", "--windows", "28d,all", "--cadences", "14d")


def told(state, *more):
    words = ("evaluate", "freshness", "tests/models/quick.yaml", "--state", state, *WORDS, *more)
    command = [sys.executable, "-m", "tidegate.cli", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_flights_are_played_and_a_second_time_come_from_the_cache(tmp_path):
    state, page = tmp_path / "state", tmp_path / "freshness.html"
    first = json.loads(told(state, "--json", "--out", page))
    cells = {(one["window"], one["cadence"], one["mode"]): one for one in first["cells"]}
    assert next(iter(cells)) == ("all", "never", "stateless")
    assert {("all", "14d", "stateless"), ("28d", "never", "stateless")} <= set(cells)
    stale = cells["all", "never", "stateless"]
    assert stale["gain"] == {"estimate": 0.0, "lower": 0.0, "upper": 0.0}
    assert all(one["value"] > 0 and 0.5 < one["roc_auc"] < 1 and one["cpu_seconds"] > 0 for one in first["cells"])
    assert first["scored"]["until"] < "2013-03-12"
    assert first["iteration"]["verdict"] in ("data", "model", "both", "neither")
    assert sum(period["rows"] for period in first["timeline"]["periods"]) == first["scored"]["rows"]
    assert "Freshness of quick" in page.read_text()
    again = json.loads(told(state, "--json"))
    assert again == first  # the CPU-seconds too: nothing was fitted again
