"""Runs a workflow file with act: jobs on this machine, one at a time, in copies of a clone.

``python -m tests.workflows.act ci.yml`` runs all of it, tells the minutes of each job and what was skipped, and ends
with pytest's own closing line.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
ACT = Path(sys.executable).with_name("act")
SKIPPED = "${{ !env.ACT }}"
"""The one switch: steps with this condition need a registry or GitHub itself."""
_LINE = re.compile(r"^\[(?P<job>[^\]]*?)\s*\]\s+(?:\| )?(?P<text>.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENDED = re.compile(r"(\d+) (?:passed|failed|error)")
_CLOSING = re.compile(r"^(=+ )?\d+ (passed|failed|error).* in [\d.:]+s")


@dataclass
class Ran:
    """How a workflow ended, what its steps wrote, and the seconds of each job in the order of their starts."""

    failed: bool = True
    said: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def closing(self) -> str:
        """The line with which the pytest of the most tests ended; empty where none ran."""
        found = [line for line in self.said.splitlines() if _CLOSING.match(line)]
        return max(found, key=lambda line: sum(map(int, _ENDED.findall(line))), default="")

    @property
    def broken(self) -> list[str]:
        """What pytest named as failed, with its reasons."""
        return [line for line in self.said.splitlines() if line.startswith(("FAILED ", "ERROR ", "E   "))]


def command(workflow: str, job: str = "", event: str = "push", *more: str, env: Mapping[str, str]) -> list[str]:
    """act's words. `env`: variables of every step."""
    words = [str(ACT), event, "-W", f".github/workflows/{workflow}", "-P", "ubuntu-latest=-self-hosted"]
    words += ["--concurrent-jobs", "1", *(["-j", job] if job else []), *more]
    return words + [word for name, value in env.items() for word in ("--env", f"{name}={value}")]


def act(
    clone: Path, workflow: str, job: str = "", event: str = "push", *more: str, env: Mapping[str, str] | None = None,
    show: Callable[[str], None] = lambda line: None,
) -> Ran:  # fmt: skip
    """Run it in `clone`; `more` words for act, `show` gets each line as it comes."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    ran, began, lines = Ran(), {}, []
    with (
        tempfile.TemporaryDirectory(prefix="act-") as place,  # act leaves the copies of jobs that failed
        subprocess.Popen(
            command(workflow, job, event, "--action-cache-path", place, *more, env=env or {}),
            cwd=clone, env=outer, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        for raw in process.stdout:
            line = _COLOUR.sub("", raw.rstrip("\n"))
            show(line)
            if found := _LINE.match(line):
                now = time.monotonic()
                ran.seconds[found["job"]] = now - began.setdefault(found["job"], now)
            lines.append(found["text"] if found else line)
    ran.failed, ran.said = process.returncode != 0, "\n".join(lines)
    return ran


def skipped(workflow: str, folder: Path = ROOT) -> list[str]:
    """What of a workflow, and of those that it calls, does not run under act: `file: job: step`."""
    told, found = yaml.safe_load((folder / ".github/workflows" / workflow).read_text()), []
    for name, job in told["jobs"].items():
        if "uses" in job:
            found += skipped(Path(job["uses"]).name, folder)
        for step in job.get("steps", ()):
            if step.get("if") == SKIPPED:
                found.append(f"{workflow}: {name}: {step.get('name') or step.get('uses')}")
    return list(dict.fromkeys(found))


def main() -> int:
    """The whole workflow in this clone; exit status 1 when a job failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workflow")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of every step")
    given = parser.parse_args()
    env = dict(one.split("=", 1) for one in given.env)
    ran = act(ROOT, given.workflow, env=env, show=lambda line: print(line, flush=True))
    for job, seconds in ran.seconds.items():
        print(f"minutes of {job}: {seconds / 60:.1f}")
    print(f"minutes of all jobs: {sum(ran.seconds.values()) / 60:.1f}")
    for step in skipped(given.workflow) or ["nothing"]:
        print(f"skipped without a registry and GitHub: {step}")
    for line in ran.broken if ran.failed else ():
        print(line)
    print(ran.closing or ("failed" if ran.failed else "done"), flush=True)
    return int(ran.failed)


if __name__ == "__main__":
    sys.exit(main())
