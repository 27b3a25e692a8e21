"""KFP component that scores one partition of a batch prediction."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def batch_score(job: str) -> int:
    """Write a partition's predictions, unless they are there; returns its number of rows."""
    from tidegate.serve.batch_steps import score

    return score(job)
