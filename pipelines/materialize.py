"""The materialization pipeline. ``python -m pipelines.materialize`` writes the compiled package beside it.

One step, which may be run again at any time: what is there already is not written again. It refuses to run beside a
stream, which feeds the same repo by itself.
"""

from pathlib import Path

from kfp import compiler, dsl

from components.materialize import materialize as materialize_step

PACKAGE = Path(__file__).with_suffix(".yaml")


@dsl.pipeline(name="materialize", description="The newest data version's features into the live feature repo.")
def materialize(workload: str, state: str, run: str):
    """One run.

    Args:
        workload: package.module:object of the workload.
        state: the state folder.
        run: the run's id.
    """
    task = materialize_step(workload=workload, state=state, run=run)
    task.set_caching_options(False)  # what it does depends on the state folder, not on its arguments


def compile_package(path: Path = PACKAGE) -> Path:
    """Write the compiled package; the same code gives the same bytes."""
    compiler.Compiler().compile(materialize, str(path))
    return path


if __name__ == "__main__":
    compile_package()
