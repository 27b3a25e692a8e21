"""KFP component of the validate step."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def validate(
    workload: str,
    champion: str,
    state: str,
    run: str,
    arrivals: dsl.Input[dsl.Dataset],
    valid: dsl.Output[dsl.Dataset],
) -> NamedTuple("Outputs", [("verdict", str)]):
    """Gate 1: rows that keep the workload's contract; `verdict` is passed or refused."""
    from tidegate.steps import run_step

    wanted = {"workload": workload, "champion": champion}
    paths = {"arrivals": arrivals.path}, {"valid": valid.path}
    return (run_step("validate", wanted, *paths, state, run),)
