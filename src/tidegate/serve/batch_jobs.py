"""Batches as they are asked for: by a person, or by the controller as a process that outlives it. Does I/O.

A scheduled batch is a folder ``STATE/batch/<run>/``: ``request.json`` (the job), ``lock`` (held by the process at
work), ``attempts``, ``log.txt`` and, written last and at once, ``result.json``. A process that died is started again
and goes on by partition.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from tidegate.errors import PlatformError, UserError
from tidegate.register.models import trusted
from tidegate.serve.batch import REQUEST, RESULT, Batch, Job, Progress, Result
from tidegate.serve.loaded import LoadedModel, load_model
from tidegate.train.model_file import folder_name

if TYPE_CHECKING:
    from tidegate.spec import Model

ATTEMPTS = 10
"""Starts of one scheduled batch; when its process has died as often, the batch has failed."""


def job_of(model: Model, state: Path, input_: str, output: str, version: str | None, at: float | None) -> Job:
    """A person's batch by the champion, or by `version` (``v1.1``) of the journal; `at` None: now, in whole seconds.

    UserError where there is no such version.
    """
    name, digest = version_of(model.name, state, version)
    return Job(
        model.name, name, digest, model.spec.workload, str(state.resolve()), input_, output,
        float(int(time.time())) if at is None else at, tuple(trusted(model.spec.trust, state)),
    )  # fmt: skip


def model_of(model: Model, state: Path, version: str | None) -> LoadedModel:
    """The champion, or `version`, loaded and proved; UserError as `job_of`."""
    _, digest = version_of(model.name, state, version)
    keys = [bytes.fromhex(key) for key in trusted(model.spec.trust, state)]
    return load_model(state / "models" / folder_name(digest), digest, keys)


def version_of(model: str, state: Path, version: str | None) -> tuple[str, str]:
    """(name, digest) of the champion of the model named so, or of `version`; UserError where there is none."""
    from tidegate.journal.fold import ModelState, fold
    from tidegate.journal.store import open_journal

    known = fold(open_journal(state).read(model), ModelState(model=model))
    if version is None and known.champion is not None:
        return known.champion.version, known.champion.digest
    if version is None:
        raise UserError(f"--state {state}", f"no version of {model} serves", "a champion, or --version")
    versions = {data["version"]: digest for digest, data in known.versions.items()}
    if version not in versions:
        raise UserError("--version", version, f"one of {', '.join(versions)}" if versions else "a registered version")
    return version, versions[version]


def run_by_hand(job: Job, again: bool, progress: Progress) -> Result:
    """Run a person's batch; with `again` one of the same that was killed goes on, at the time that it had."""
    same = json.dumps([job.digest, job.input, job.output])
    note = Path(job.state) / "batch" / f"by-hand-{hashlib.sha256(same.encode()).hexdigest()[:16]}.json"
    if again and note.is_file():
        job = msgspec.structs.replace(job, at=float(note.read_text()))
    batch = Batch(job)
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("a") as held:
        if not _lock(held):
            raise UserError("--output", job.output, "a place that no other batch of the same rows is writing to")
        held.truncate(0)
        held.write(repr(job.at))
        held.flush()
        done = batch.run(progress)
        note.unlink()
    return done


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Show partitions and rows on stderr, where it is a terminal and not `quiet`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda done, total, rows: bar.update(task, completed=done, total=total, description=f"{rows:,} rows")


class LocalBatches:
    """Runs scheduled batches on this machine, each in a session of its own, in the state folder `state`."""

    def __init__(self, model: Model, state: Path) -> None:
        self._state, self._workload = state.resolve(), model.spec.workload
        self._name, self._keys = model.name, tuple(trusted(model.spec.trust, state))

    def end(self, started: Mapping[str, Any]) -> dict[str, Any] | None:
        """How a batch ended: ``{"result"}`` or ``{"error"}``; None while it is at work.

        `started`: the data of its serve.batch_started event, and the event's time. It is started where it was not,
        and again where its process has died.
        """
        folder = self._folder(started["run"])
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("a") as lock:
            if not _lock(lock):
                return None
            if (folder / RESULT).is_file():
                found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
                return found
            if (died := _attempts(folder)) >= ATTEMPTS:
                return {"error": f"its process died {died} times; see {folder / 'log.txt'}"}
            self._start(folder, self._job(started), lock)
        return None

    def _folder(self, run: str) -> Path:
        return self._state / "batch" / run

    def _job(self, started: Mapping[str, Any]) -> Job:
        return Job(
            self._name, started["version"], started["digest"], self._workload, str(self._state),
            started["input"], started["output"], started["time"], self._keys, lookup=True,
        )  # fmt: skip

    def _start(self, folder: Path, job: Job, lock: IO[str]) -> None:
        with (folder / "attempts").open("a") as attempts:
            attempts.write("start\n")
        (folder / REQUEST).write_bytes(msgspec.json.encode(job))
        with (folder / "log.txt").open("a") as log:
            subprocess.Popen(
                [sys.executable, "-m", "tidegate.serve.batch", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
            )

    def stop(self, run: str) -> None:
        """Kill a batch's process that is at work; the next `end` starts it again, and counts this as no death."""
        import psutil

        for process in psutil.process_iter(["cmdline"]):
            if (process.info["cmdline"] or [])[1:] == ["-m", "tidegate.serve.batch", str(self._folder(run))]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(psutil.Error):
                    process.wait(10)
        (self._folder(run) / "attempts").unlink(missing_ok=True)


def _attempts(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return len((folder / "attempts").read_text().splitlines())
    return 0


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise PlatformError(f"{file.name}: {error.strerror}") from None
    return True
