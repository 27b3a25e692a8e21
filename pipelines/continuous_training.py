"""The continuous-training pipeline. ``python -m pipelines.continuous_training`` writes the compiled package beside it.

No condition stands on a task's output (kfp.local evaluates it to false and reports success): a gate's verdict is a
parameter of the later steps, which only record it when it is refused.
"""

from pathlib import Path

from kfp import compiler, dsl

from components.evaluate import evaluate
from components.features import features
from components.ingest import ingest
from components.register import register
from components.train import train
from components.validate import validate
from components.version import version

PACKAGE = Path(__file__).with_suffix(".yaml")


@dsl.pipeline(name="continuous-training", description="From rows to a candidate: seven steps, two gates.")
def continuous_training(
    workload: str,
    model: str,
    until: str,
    state: str,
    run: str,
    settings: str,
    cause: str = "manual",
    champion: str = "",
):
    """One run.

    Args:
        workload: package.module:object of the workload.
        model: name of the Model.
        until: event time, ISO 8601; rows that arrive later are not seen.
        state: the state folder.
        run: the run's id.
        settings: JSON text of tidegate.train.settings.RunSettings.
        cause: why the run was started.
        champion: digest of the version that serves, empty before the first.
    """
    base = {"state": state, "run": run}
    ingested = ingest(workload=workload, until=until, **base)
    checked = validate(workload=workload, champion=champion, arrivals=ingested.outputs["arrivals"], **base)
    valid, base["verdict"] = checked.outputs["valid"], checked.outputs["verdict"]
    versioned = version(valid=valid, **base)
    data = {"valid": valid, "data_version": versioned.outputs["data_version"]}
    joined = features(workload=workload, **data, **base)
    wanted = {"workload": workload, "until": until, "settings": settings, "champion": champion}
    trained = train(features=joined.outputs["features"], **wanted, **base)
    made = {"model": trained.outputs["model"]}
    gated = evaluate(features=joined.outputs["features"], **made, **wanted, **base)
    base["verdict"] = gated.outputs["verdict"]
    last = register(name=model, until=until, cause=cause, gate=gated.outputs["gate"], **data, **made, **base)
    for task in (ingested, checked, versioned, joined, trained, gated, last):
        task.set_caching_options(False)  # the steps' own cache is the one cache


def compile_package(path: Path = PACKAGE) -> Path:
    """Write the compiled package; the same code gives the same bytes."""
    compiler.Compiler().compile(continuous_training, str(path))
    return path


if __name__ == "__main__":
    compile_package()
