"""KFP component of materialization: the newest data version's features into the live feature repo."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def materialize(workload: str, state: str, run: str, done: dsl.Output[dsl.Artifact]):
    """Bring the live repo of the state folder up to its newest data version; `done` says what was new."""
    from tidegate.features.materialize import run_component

    run_component(workload, state, run, done.path)
