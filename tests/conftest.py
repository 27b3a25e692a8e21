"""What several kinds of tests share: a short demo, played once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore")
# the same cases at each run, so that a change is what makes a test fail; `make soak` draws new ones
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class PlayedDemo:
    """A short demo that was played: its exit status, output, report, state folder and claims."""

    status: int
    output: str
    report: Path
    state: Path
    claims: list[dict[str, Any]]


@pytest.fixture(scope="session")
def demo_report(tmp_path_factory) -> PlayedDemo:
    """The code of `make demo` on a short slice, with a Model file of its own."""
    folder = tmp_path_factory.mktemp("demo")
    report = folder / "report.html"
    files = ("--model", "tests/models/short.yaml", "--sabotaged", "tests/models/short-sabotaged.yaml")
    span = ("--since", "2013-07-01", "--until", "2013-08-12", "--state", str(folder / "state"), "--report", str(report))
    done = subprocess.run(
        [sys.executable, "-m", "demo", *files, *span],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    claims = json.loads(report.with_suffix(".json").read_text()) if report.exists() else []
    return PlayedDemo(done.returncode, done.stdout + done.stderr, report, folder / "state", claims)


def pytest_terminal_summary(terminalreporter):
    """One line at the end where browser tests were skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    if any("no chromium" in str(report.longrepr) for report in skipped):
        terminalreporter.write_line("browser tests were skipped: no chromium or google-chrome on PATH")
