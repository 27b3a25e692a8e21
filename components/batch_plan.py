"""KFP component that opens a batch prediction: which version, which time, which partitions."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def batch_plan(
    model: str, workload: str, state: str, input: str, output: str, version: str, at: str, trust: str
) -> list[str]:
    """Make a job of every partition."""
    from tidegate.serve.batch_steps import plan

    return plan(model, workload, state, input, output, version, at, trust)
