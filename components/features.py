"""KFP component of the features step."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def features(
    workload: str,
    state: str,
    run: str,
    verdict: str,
    valid: dsl.Input[dsl.Dataset],
    data_version: dsl.Input[dsl.Artifact],
    features: dsl.Output[dsl.Dataset],
):
    """Features as of each prediction time, through Feast, with labels that have matured."""
    from tidegate.steps import run_step

    inputs = {"valid": valid.path, "data_version": data_version.path}
    run_step("features", {"workload": workload}, inputs, {"features": features.path}, state, run, verdict)
