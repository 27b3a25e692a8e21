"""KFP component of the evaluate step."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def evaluate(
    workload: str,
    until: str,
    settings: str,
    champion: str,
    state: str,
    run: str,
    verdict: str,
    model: dsl.Input[dsl.Model],
    features: dsl.Input[dsl.Dataset],
    gate: dsl.Output[dsl.Artifact],
) -> NamedTuple("Outputs", [("verdict", str)]):
    """Gate 2: the model beside the champion on the newest matured rows; `verdict` is passed or refused."""
    from tidegate.steps import run_step

    wanted = {"workload": workload, "until": until, "settings": settings, "champion": champion}
    inputs = {"model": model.path, "features": features.path}
    return (run_step("evaluate", wanted, inputs, {"gate": gate.path}, state, run, verdict),)
