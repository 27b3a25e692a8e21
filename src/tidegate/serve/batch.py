"""Batch prediction: every row of Parquet partitions scored by one model version, written where it is wanted.

``python -m tidegate.serve.batch FOLDER`` runs the job of a folder (``request.json``) and writes ``result.json``: what
the controller starts when a schedule is due. A job that was killed is run again and goes on by partition.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from tidegate.errors import TidegateError, UserError
from tidegate.serve import batch_rows
from tidegate.serve.batch_output import Made, columns_of, open_output
from tidegate.serve.batch_rows import Encode, Partition, Shape
from tidegate.serve.loaded import load_model
from tidegate.serve.lookup import LookupWriter, lookup_file
from tidegate.train.model_file import folder_name

if TYPE_CHECKING:
    import pyarrow as pa

    from tidegate.workload import Workload

REQUEST, RESULT = "request.json", "result.json"
Progress = Callable[[int, int, int], None]
"""Told of partitions done, partitions in all, rows done."""


class Job(msgspec.Struct, frozen=True):
    """All that a batch depends on. `at`: seconds since the epoch; the time that its predictions are of."""

    model: str
    version: str
    digest: str
    workload: str
    state: str
    input: str
    output: str
    at: float
    public_keys: tuple[str, ...] = ()
    """Whose signatures are taken, Ed25519 in hex; with none, signatures are not checked."""
    lookup: bool = False
    """Its predictions answer ``GET /lookup/{key}``."""

    @property
    def label(self) -> str:
        """``NAME@vN.M``."""
        return f"{self.model}@{self.version}"


@dataclass(frozen=True)
class Result:
    """What a batch did: `rows` in the output, `scored` of them now, the others by an earlier attempt of the same run.

    `seconds` of this attempt. `parity`: what its own scores of logged rows are off.
    """

    rows: int
    scored: int
    partitions: int
    seconds: float
    model: str
    digest: str
    at: float
    parity: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON document."""
        return asdict(self)

    def to_text(self) -> str:
        """The result for the terminal."""
        earlier = f", {self.rows - self.scored} of them scored earlier" if self.scored < self.rows else ""
        return (
            f"{self.rows} rows in {self.partitions} partitions{earlier}, {self.seconds:.1f} s, "
            f"{self.model} ({self.digest})"
        )


class Batch:
    """One job at work: its model and output are open. Raises UserError and PlatformError, in one line each."""

    def __init__(self, job: Job) -> None:
        from tidegate.workload import load_workload

        keys = [bytes.fromhex(text) for text in job.public_keys]
        self.job, self.output = job, open_output(job.output)
        self.model = load_model(Path(job.state) / "models" / folder_name(job.digest), job.digest, keys)
        self._workload = load_workload(job.workload)
        self._encoders: dict[bool, Encode] = {}

    def run(self, progress: Progress = lambda done, total, rows: None) -> Result:
        """Score every partition that the output does not have yet."""
        began, rows, scored = time.monotonic(), 0, 0
        parts = self.partitions()
        lookup = self._lookup()
        self.output.begin()
        for number, part in enumerate(parts, 1):
            had, now = self.partition(part, lookup)
            rows, scored = rows + had + now, scored + now
            progress(number, len(parts), rows)
        self.output.finish()
        if lookup:
            lookup.finish()
        job, seconds = self.job, round(time.monotonic() - began, 3)
        return Result(rows, scored, len(parts), seconds, job.label, job.digest, job.at)

    def partitions(self) -> list[Partition]:
        """The input's; UserError when the output lies among them."""
        if f"{self.job.output}/".startswith(f"{self.job.input.rstrip('/')}/"):
            raise UserError("--output", self.job.output, f"a place outside the input {self.job.input}")
        return batch_rows.partitions(self.job.input)

    def partition(self, part: Partition, lookup: LookupWriter | None = None) -> tuple[int, int]:
        """(rows that the output had already, rows scored now) of one partition; one of the two is 0."""
        made = Made(part.name, part.token, self.job.digest, self.job.at)
        if (had := self.output.rows(made)) is not None:
            return had, 0
        file = batch_rows.open_parquet(part.name)
        shape = batch_rows.shape_of(file.schema_arrow.names, self.model.schema, self._workload, part.name)
        schema = columns_of([file.schema_arrow.field(key) for key in shape.keys])
        rows = int(file.metadata.num_rows)
        file.close()
        self.output.write(made, schema, self._predicted(part, shape, schema, lookup))
        return 0, rows

    def _predicted(
        self, part: Partition, shape: Shape, schema: pa.Schema, lookup: LookupWriter | None
    ) -> Iterator[pa.RecordBatch]:
        """The partition's output rows. They can be looked up before the output says that the partition is there."""
        import pyarrow as pa

        file = batch_rows.open_parquet(part.name, shape.categories)
        batches, constants = batch_rows.read(file, shape, part.name), Constants(self.job, schema)
        for batch, scores in batch_rows.scored(self.model, self._encoder(shape), batches, threads()):
            keys = [batch.column(name) for name in shape.keys]
            if lookup:
                lookup.add(zip(*(key.to_pylist() for key in self._asked(batch, shape)), strict=True), scores.tolist())
            own = [pa.array(scores.astype(np.float64)), *constants.of(batch.num_rows)]
            yield pa.RecordBatch.from_arrays([*keys, *own], schema=schema)
        file.close()
        if lookup:
            lookup.save()

    def _asked(self, batch: pa.RecordBatch, shape: Shape) -> list[pa.Array]:
        """The columns that a prediction is looked up by: the keys but the time."""
        from tidegate.features.asof import TIME

        return [batch.column(name) for name in shape.keys if name != TIME or len(shape.keys) == 1]

    def _encoder(self, shape: Shape) -> Encode:
        if shape.by_key not in self._encoders:
            schema, job = self.model.schema, self.job
            made = (
                batch_rows.by_keys(schema, self._workload, offline_tables(job.state, self._workload, job.workload))
                if shape.by_key
                else batch_rows.by_features(schema)
            )
            self._encoders[shape.by_key] = made
        return self._encoders[shape.by_key]

    def _lookup(self) -> LookupWriter | None:
        job = self.job
        return LookupWriter(lookup_file(Path(job.state)), job.label, job.digest, job.at) if job.lookup else None


class Constants:
    """The columns model, digest and scored_at of one job, cut to a batch's length."""

    def __init__(self, job: Job, schema: pa.Schema) -> None:
        import pyarrow as pa

        zeros = pa.array(np.zeros(batch_rows.READ, np.int32))
        texts = [pa.DictionaryArray.from_arrays(zeros, pa.array([text])) for text in (job.label, job.digest)]
        at = np.full(batch_rows.READ, round(job.at * 1e6), np.int64)
        self._columns = [*texts, pa.array(at).cast(schema.field("scored_at").type)]

    def of(self, rows: int) -> list[pa.Array]:
        """The columns, `rows` long."""
        return [column.slice(0, rows) for column in self._columns]


def threads() -> int:
    """Threads that score: one a core that this process may use."""
    return len(os.sched_getaffinity(0))


def offline_tables(state: str, workload: Workload, name: str) -> dict[str, Any]:
    """Every view's offline rows of the live feature repo; UserError where it has none at all."""
    from tidegate.features.live import live_repo, offline_rows

    live = live_repo(Path(state), workload, name)
    tables = {view.name: offline_rows(live, view) for view in workload.view_definitions()}
    if not any(table.height for table in tables.values()):
        raise UserError(f"{live.views}", "no rows", "offline features; see `tidegate features materialize`")
    return tables


def main(folder: Path) -> int:
    """Run the job of a folder and write its end beside it, at once: a result, or the error in one line."""
    from tidegate.serve.batch_parity import rescore

    job = msgspec.json.decode((folder / REQUEST).read_bytes(), type=Job)
    try:
        batch = Batch(job)
        done = batch.run()
        told: dict[str, Any] = {"result": {**done.to_json(), "parity": rescore(batch.model, Path(job.state)).to_json()}}
    except TidegateError as error:
        told = {"error": str(error)}
    made = folder / f".{RESULT}"
    made.write_text(json.dumps(told), encoding="utf-8")
    made.replace(folder / RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
