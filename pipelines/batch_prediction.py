"""The batch-prediction pipeline. ``python -m pipelines.batch_prediction`` writes the compiled package beside it.

Partitions are scored side by side, each by a step of its own; a step that failed and is tried again, or a run that is
started again with the same `at`, leaves what is there as it is.

Three limits of kfp.local 2.16 shape the graph: it runs loops after all other steps and fails on one that waits for a
loop, so nothing stands behind it; it loops over a step's only output, not over a named one; and inside a loop it puts
the loop's item in place of every other step's output, so that an item says all that there is to know.
"""

from pathlib import Path

from kfp import compiler, dsl

from components.batch_plan import batch_plan
from components.batch_score import batch_score

PACKAGE = Path(__file__).with_suffix(".yaml")
SIDE_BY_SIDE = 4
"""Partitions that are scored at the same time."""


@dsl.pipeline(name="batch-prediction", description="Every row of Parquet partitions scored by one model version.")
def batch_prediction(
    model: str,
    workload: str,
    input: str,
    output: str,
    state: str,
    run: str,
    version: str = "",
    at: str = "",
    trust: str = "",
):
    """One run.

    Args:
        model: name of the Model.
        workload: package.module:object of the workload.
        input: Parquet files: a folder, a glob or a file, at any place that fsspec reaches.
        output: a folder for Parquet files, or a SQLAlchemy URL with #TABLE.
        state: the state folder.
        run: the run's id.
        version: v1, v1.1 ...; empty takes the champion.
        at: time of the predictions, ISO 8601; empty takes now.
        trust: public keys in hex, with spaces between them; empty takes the state folder's own.
    """
    asked = {"model": model, "workload": workload, "state": state, "version": version, "at": at, "trust": trust}
    planned = batch_plan(input=input, output=output, **asked)
    planned.set_caching_options(False)  # the input and the champion are the world's
    with dsl.ParallelFor(planned.output, parallelism=SIDE_BY_SIDE) as job:
        scored = batch_score(job=job)
        scored.set_caching_options(False)  # the output itself knows what it has


def compile_package(path: Path = PACKAGE) -> Path:
    """Write the compiled package; the same code gives the same bytes."""
    compiler.Compiler().compile(batch_prediction, str(path))
    return path


if __name__ == "__main__":
    compile_package()
