"""``python -m benchmarks [NAME ...] [--json] [--write]``: run them, print tables, or one JSON document."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time

from benchmarks.results import Result, machine, say, write

NAMES = ("loop", "join", "serving", "small", "replica", "partitions", "stream", "online", "cold_start", "batch", "edge")
"""Modules of this package, each with ``run() -> Result``."""
LONG = (
    *("three_demos", "candidates", "freshness", "gate_rates", "interleave", "judge_report", "registry", "serve_soak"),
    *("releases", "traffic_changes", "shadows", "hard_challengers", "unattended", "feedback_bias", "rare_event"),
    *("label_join", "images", "many_servers", "many_models", "console"),
    *("diagnosis_report", "diagnosis_peers", "diagnosis_streams"),
)
"""The same, but longer than anyone waits for: run by name only (`make soak`)."""


def main(words: list[str] | None = None) -> int:
    """Exit status 0 when every budget was met, 1 when one was not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}, without a name; {', '.join(LONG)} by name only"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else")
    parser.add_argument("--write", action="store_true", help="write docs/results/NAME.md")
    given = parser.parse_args(words)
    if unknown := set(given.names) - {*NAMES, *LONG}:
        parser.error(f"{', '.join(sorted(unknown))}: got no benchmark of that name, takes {', '.join((*NAMES, *LONG))}")
    results = [_run(name) for name in given.names or NAMES]
    if given.json:
        print(json.dumps({"machine": machine(), "results": [result.to_json() for result in results]}))
    else:
        print("\n\n".join(result.to_text() for result in results))
    for result in results if given.write else ():
        say(f"wrote {write(result)}")
    return 0 if all(budget.met for result in results for budget in result.budgets) else 1


def _run(name: str) -> Result:
    say(f"{name}: starts")
    began = time.monotonic()
    result: Result = importlib.import_module(f"benchmarks.{name}").run()
    say(f"{name}: took {time.monotonic() - began:.1f} s")
    return result


if __name__ == "__main__":
    sys.exit(main())
