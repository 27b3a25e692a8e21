"""Runs compiled packages with kfp.local, each in a process of its own that outlives whoever submitted it.

A run is a folder ``STATE/runs/<run>/``: ``request.json`` (package and arguments), ``lock`` (held by the run's process
from before it starts until it is gone), ``started``, ``log.txt``, ``root/`` (KFP's pipeline root), ``steps/`` (records)
and, written last and at once, ``status.json``. Neither a process id nor a clock is asked: a run that has started, has
no status and whose lock is free has died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tidegate import scratch
from tidegate.errors import PlatformError, UserError
from tidegate.orchestrators.base import RunStatus
from tidegate.orchestrators.package import parse_package
from tidegate.orchestrators.runid import run_id
from tidegate.spec import read_yaml
from tidegate.steps import read_records
from tidegate.version.dvc import REMOTE, VARIABLE

BAD_SIGN = "Condition evaluation failed"
"""kfp.local logs this, skips steps and reports success; such a run has failed."""


class LocalOrchestrator:
    """Runs on this machine, kept in the folder `state`; see `tidegate.orchestrators.base.Orchestrator`."""

    def __init__(self, state: Path) -> None:
        self._state = state.resolve()

    def submit(self, package: Path, arguments: Mapping[str, str], key: str) -> str:
        """Start a run in its own session; the same key again is the same run, started again only if it never began."""
        run = run_id(key)
        filled = {"state": str(self._state), "run": run, **arguments}
        parse_package(read_yaml(package), str(package)).check(filled, str(package))
        folder = self._folder(run)
        if not folder.is_dir():
            _make(folder, {"package": str(package.resolve()), "arguments": filled})
        _start(folder)
        return run

    def status(self, run: str) -> RunStatus:
        """How the run is doing; UserError for an unknown one."""
        folder = self._folder(run)
        if not folder.is_dir():
            raise UserError("run", run, f"the id of a run under {self._state / 'runs'}")
        locked = _locked(folder)  # asked before the end is looked for: a run writes its end, then lets go
        steps = tuple((r.step, r.seconds, r.cached) for r in read_records(self._state, run))
        end = read_end(folder)
        if end is None:
            error = "the run's process ended without an end" if (folder / "started").exists() else "never started"
            if not locked:
                scratch.wipe(folder)
            return RunStatus(run, "running", steps) if locked else RunStatus(run, "failed", steps, error)
        return RunStatus(run, "failed" if end["error"] else "succeeded", steps, end["error"])

    def stop(self, run: str) -> None:
        """End a run that is at work, with every process of its; its status is then failed."""
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [])[1:] == ["-m", "tidegate.orchestrators.local", str(self._folder(run))]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(psutil.Error):
                    process.wait(10)

    def _folder(self, run: str) -> Path:
        return self._state / "runs" / run_id(run)


def _make(folder: Path, request: Mapping[str, Any]) -> None:
    """The run's folder with its request, whole when it appears; where another submit was first, its folder stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".run-", dir=folder.parent))
    try:
        (made / "request.json").write_text(json.dumps(request), encoding="utf-8")
        if not scratch.retains(request["arguments"]):
            scratch.begin(made)
        made.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise PlatformError(f"{folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _start(folder: Path) -> None:
    """Start the run's process, unless it has begun; the lock is taken here and handed to it."""
    with (folder / "lock").open("a") as lock:
        while not _try_lock(lock, fcntl.LOCK_EX):
            if (folder / "started").exists():
                return
            time.sleep(0.005)  # held for a moment by another submit, which starts it, or by a status
        if not (folder / "started").exists():
            (folder / "started").touch()
            _spawn(folder, lock.fileno())


def _spawn(folder: Path, lock: int) -> None:
    with log_file(folder).open("a") as log:
        subprocess.Popen(
            [sys.executable, "-m", "tidegate.orchestrators.local", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(folder),
            pass_fds=(lock,),
            start_new_session=True,
        )


def _environment(folder: Path) -> dict[str, str]:
    """Ours, but steps may keep their bytecode: each is a new process, and compiling its imports takes ten seconds.

    Where rows are not retained, temporary files go to the scratch folder, and so does what would go to a DVC remote.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if scratch.forgets(folder):
        own = folder / scratch.FOLDER
        kept |= {"TMPDIR": str(own / "tmp"), VARIABLE: str(own / "state" / REMOTE)}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def log_file(folder: Path) -> Path:
    """The log of the run in this folder."""
    return (folder / scratch.FOLDER if scratch.forgets(folder) else folder) / "log.txt"


def _locked(folder: Path) -> bool:
    with (folder / "lock").open("a") as lock:
        return not _try_lock(lock, fcntl.LOCK_SH)


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_end(folder: Path) -> dict[str, str] | None:
    """How the run in this folder ended, ``{"error"}``; None where it has not."""
    try:
        return dict(json.loads((folder / "status.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def run_package(folder: Path) -> str:
    """Run the request of a run's folder with kfp.local; returns the error in one line, empty when it succeeded."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    try:
        from kfp import local
        from kfp.components import load_component_from_file

        root = (folder / scratch.FOLDER if scratch.forgets(folder) else folder) / "root"
        local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        load_component_from_file(request["package"])(**request["arguments"])
    except Exception as error:  # noqa: BLE001 - whatever kfp raises is this run's end, written to its status
        traceback.print_exc()
        return error_line(_log(folder)) or f"{type(error).__name__}: {one_line(str(error))}"
    return f"kfp.local: {BAD_SIGN}" if BAD_SIGN in _log(folder) else ""


def error_line(log: str) -> str:
    """The message of the last error of ours that a step raised, else its last error of any kind; empty without one."""
    ours = re.findall(r"^ *tidegate\.errors\.\w+: (.*)$", log, flags=re.MULTILINE)
    others = re.findall(r"^ +((?:\w+\.)*\w+(?:Error|Exception): .*)$", log, flags=re.MULTILINE)
    return one_line(str([*others, *ours][-1])) if ours or others else ""


def one_line(text: str) -> str:
    """One line of at most 300 characters, without the terminal's colours."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())[:300]


def _log(folder: Path) -> str:
    sys.stdout.flush()
    return log_file(folder).read_text(encoding="utf-8", errors="replace")


def main(folder: Path) -> None:
    """The run's process: run the package, write status.json last and at once."""
    error = run_package(folder)
    if scratch.forgets(folder):
        error = error and "a step failed; its message may quote a row, so it is not retained"
        scratch.wipe(folder)
    made = folder / ".status.json"
    made.write_text(json.dumps({"error": error}), encoding="utf-8")
    made.replace(folder / "status.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
