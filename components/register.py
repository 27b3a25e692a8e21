"""KFP component of the register step."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def register(
    name: str,
    until: str,
    cause: str,
    state: str,
    run: str,
    verdict: str,
    valid: dsl.Input[dsl.Dataset],
    data_version: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    gate: dsl.Input[dsl.Artifact],
    candidate: dsl.Output[dsl.Artifact],
):
    """A model that passed becomes a candidate in the journal; a run that was refused is recorded there."""
    from tidegate.steps import run_step

    wanted = {"name": name, "until": until, "run": run, "cause": cause}
    inputs = {"valid": valid.path, "data_version": data_version.path, "model": model.path, "gate": gate.path}
    run_step("register", wanted, inputs, {"candidate": candidate.path}, state, run, verdict)
