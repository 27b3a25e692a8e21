"""What a Job's pod does: one local run on the shared volume, its log shown, its end told to Kubernetes.

``python -m tidegate.orchestrators.in_pod REQUEST STATE``: REQUEST holds `package.yaml` and `arguments.json`. The run
is the one that `LocalOrchestrator` starts, in STATE. The pod's termination message is the error in one line.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from tidegate.errors import TidegateError
from tidegate.orchestrators.local import LocalOrchestrator, log_file

TERMINATION = Path("/dev/termination-log")


def main(request: Path, state: Path) -> int:
    """Run what `request` asks for and wait; 0 when it succeeded, 1 when it failed."""
    runner = LocalOrchestrator(state)
    arguments = json.loads((request / "arguments.json").read_text(encoding="utf-8"))
    run = arguments["run"]
    _stop_with_us(runner, run)
    try:
        runner.submit(request / "package.yaml", arguments, run)
        error = _follow(runner, run, log_file(state / "runs" / run))
    except TidegateError as problem:
        error = str(problem)
    if error:
        print(error, file=sys.stderr)
        _tell(error)
    return 1 if error else 0


def _follow(runner: LocalOrchestrator, run: str, log: Path) -> str:
    """Show the log as it grows until the run has ended; returns its error."""
    with log.open(encoding="utf-8", errors="replace") as lines:
        while True:
            status = runner.status(run)  # asked before the log is read to its end, so that no line is lost
            sys.stdout.write(lines.read())
            sys.stdout.flush()
            if status.state != "running":
                return status.error
            time.sleep(0.1)


def _stop_with_us(runner: LocalOrchestrator, run: str) -> None:
    """As process 1 a pod dies of no signal by itself: SIGTERM ends the run and then the pod."""

    def stop(_number: int, _frame: object) -> NoReturn:
        runner.stop(run)
        _tell("the run's pod was told to stop")
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)


def _tell(error: str) -> None:
    if TERMINATION.exists():
        TERMINATION.write_text(error, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
