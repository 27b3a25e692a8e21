"""What the steps of the batch pipeline do: one makes a job of every partition, many do one job each. Does I/O.

A pipeline writes a folder or a table: each of its steps writes a partition by itself. A CSV file has one writer.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from tidegate.errors import UserError
from tidegate.journal.views import seconds
from tidegate.register.models import public_key
from tidegate.serve.batch import Batch, Job
from tidegate.serve.batch_jobs import version_of
from tidegate.serve.batch_rows import partitions


def plan(
    model: str, workload: str, state: str, input_: str, output: str, version: str = "", at: str = "", trust: str = ""
) -> list[str]:
    """A job for each partition, as JSON text, all of one version and one time.

    `version` empty: the champion; `at` empty: now; `trust` empty: the state folder's own key, else keys in hex with
    spaces between them.
    """
    if output.endswith(".csv"):
        raise UserError("output", output, "a folder or URL#TABLE; one CSV file is written by `tidegate serve batch`")
    folder = Path(state).resolve()
    name, digest = version_of(model, folder, version or None)
    moment = seconds(at, "at") if at else float(int(time.time()))
    keys = tuple(trust.split()) or (public_key(folder).hex(),)
    batch = Batch(Job(model, name, digest, workload, str(folder), input_, output, moment, keys))
    found = batch.partitions()
    batch.output.begin()
    jobs = (msgspec.structs.replace(batch.job, input=part.name) for part in found)
    return [msgspec.json.encode(job).decode() for job in jobs]


def score(job: str) -> int:
    """Score the partition of one job, unless the output has it; returns the rows that it holds then."""
    batch = Batch(msgspec.json.decode(job, type=Job))
    return sum(sum(batch.partition(part)) for part in partitions(batch.job.input))
