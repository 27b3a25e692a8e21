"""KFP component of the ingest step."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def ingest(workload: str, until: str, state: str, run: str, arrivals: dsl.Output[dsl.Dataset]):
    """Rows that had arrived by `until`, in partitions by month."""
    from tidegate.steps import run_step

    run_step("ingest", {"workload": workload, "until": until}, {}, {"arrivals": arrivals.path}, state, run)
