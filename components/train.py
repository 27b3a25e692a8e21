"""KFP component of the train step."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def train(
    workload: str,
    until: str,
    settings: str,
    champion: str,
    state: str,
    run: str,
    verdict: str,
    features: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
):
    """A model version's files: trained on from the champion where that is allowed and pays, else from scratch."""
    from tidegate.steps import run_step

    wanted = {"workload": workload, "until": until, "settings": settings, "champion": champion}
    run_step("train", wanted, {"features": features.path}, {"model": model.path}, state, run, verdict)
