"""Runs a workflow file with act: jobs on this machine, one at a time, in copies of a clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ACT = Path(sys.executable).with_name("act")
_LEAD = re.compile(r"^\[[^\]]*\]\s+(?:\| )?", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """How a workflow ended, and what its steps wrote."""

    failed: bool
    said: str


def command(workflow: str, job: str = "", event: str = "push", env: Mapping[str, str] | None = None) -> list[str]:
    """act's words. `env`: variables of every step."""
    words = [str(ACT), event, "-W", f".github/workflows/{workflow}", "-P", "ubuntu-latest=-self-hosted"]
    words += ["--concurrent-jobs", "1", *(["-j", job] if job else [])]
    return words + [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]


def act(clone: Path, workflow: str, job: str = "", event: str = "push", env: Mapping[str, str] | None = None) -> Ran:
    """Run it in `clone`; a job alone runs without those that it needs."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        command(workflow, job, event, env),
        cwd=clone, env=outer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return Ran(done.returncode != 0, _LEAD.sub("", done.stdout))
