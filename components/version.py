"""KFP component of the version step."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def version(state: str, run: str, verdict: str, valid: dsl.Input[dsl.Dataset], data_version: dsl.Output[dsl.Artifact]):
    """Valid rows get a name by their content and go to the DVC remote."""
    from tidegate.steps import run_step

    run_step("version", {}, {"valid": valid.path}, {"data_version": data_version.path}, state, run, verdict)
