"""``python -m demo``: play the story, check it, write the report."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.check import Claim, check
from demo.report import write_report
from demo.story import ROOT, Played, Setting, day, play
from tidegate.errors import TidegateError


def main() -> int:
    """Exit status 0 when the story happened, 1 when it did not, 2 on a fault."""
    setting, report = _arguments()
    console = Console(stderr=True)
    shutil.rmtree(setting.state, ignore_errors=True)
    started = time.monotonic()
    try:
        played = play(setting, console)
    except TidegateError as error:
        console.print(f"demo: {error}", style="red")
        return 2
    played.seconds["in all"] = time.monotonic() - started
    claims = check(played)
    write_report(played, claims, report)
    _summary(played, claims, report)
    return 0 if all(claim.holds for claim in claims) else 1


def _arguments() -> tuple[Setting, Path]:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "k8s/models/flight-delay.yaml")
    parser.add_argument("--sabotaged", type=Path, default=ROOT / "demo/sabotaged.yaml")
    parser.add_argument("--state", type=Path, default=ROOT / "demo/state")
    parser.add_argument("--report", type=Path, default=ROOT / "demo/report.html")
    parser.add_argument("--since", type=day, default=day("2013-07-01"), help="first day of traffic (New York)")
    parser.add_argument("--until", type=day, default=day("2013-11-01"), help="day after the last")
    parser.add_argument("--share", type=float, default=0.5, help="share of the flights that is asked about")
    parser.add_argument("--seed", type=int, default=13, help="seed of that share")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second, open loop")
    given = parser.parse_args()
    setting = Setting(
        given.model,
        given.sabotaged,
        given.state.resolve(),
        given.since,
        given.until,
        given.share,
        given.seed,
        given.rate,
    )
    return setting, given.report


def _summary(played: Played, claims: list[Claim], report: Path) -> None:
    console, tally = Console(), played.tally
    table = Table(title="what the demo claims", show_lines=False)
    for column in ("", "claim", "seen"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        table.add_row("yes" if claim.holds else "NO", claim.claim, claim.seen)
    console.print(table)
    parts = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in played.seconds.items())
    console.print(f"time: {parts}", highlight=False)
    console.print(
        f"traffic: {played.setting.rate:g} requests/s open loop ({played.setting.share:.0%} of the flights, seed "
        f"{played.setting.seed}), {played.speed:.2f} event days a second, stood still {tally.stood_still:.1f} s for "
        f"runs and start-ups; latency p50 {tally.latency(0.5):.1f} ms, p99 {tally.latency(0.99):.1f} ms",
        highlight=False,
    )
    console.print(f"report: {report}", highlight=False)
    report.with_suffix(".json").write_text(json.dumps([claim.__dict__ for claim in claims], indent=1))


if __name__ == "__main__":
    sys.exit(main())
