"""LightGBM beyond one machine: the same parameters, the rows spread over the workers of a Dask cluster.

The scheduler is named by Dask's own setting, ``DASK_SCHEDULER_ADDRESS``: an address belongs to the place where a run
runs, not to a Model file. Each worker needs LightGBM, nothing of this platform. The bytes depend on which worker has
which rows; the quality is held to the same gate.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.train.boosting import parameters
from tidegate.train.families import Family, Setting

if TYPE_CHECKING:
    from distributed import Client

WAIT = 30
"""Seconds to wait for the scheduler, and for its first worker."""


def fit(
    chosen: Family,
    encoded: NDArray[np.float32],
    labels: NDArray[np.float64],
    names: Sequence[str],
    setting: Setting,
    seed: int,
) -> str:
    """LightGBM's text of a model fitted on float32 [N, F] rows, one part of them on each worker.

    Raises UserError when no scheduler is named, none answers, or it has no workers.
    """
    from dask import array

    with _client() as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        rows = -(-len(labels) // workers)
        chunked: Callable[..., Any] = array.from_array
        parts = chunked(encoded, chunks=(rows, encoded.shape[1])), chunked(labels, chunks=rows)
        options = {key: value for key, value in parameters(chosen, setting, seed).items() if key != "num_threads"}
        model = _lightgbm().DaskLGBMClassifier(
            client=client, n_estimators=setting.trees, tree_learner="data", **options
        )
        model.fit(*parts, feature_name=list(names))
        return str(model.booster_.model_to_string(num_iteration=-1))


def _client() -> Client:
    import dask.config
    from distributed import Client

    address = dask.config.get("scheduler-address", None)
    if not address:
        raise UserError("training.engine", "dask", "a scheduler's address in DASK_SCHEDULER_ADDRESS")
    try:
        client = Client(address, timeout=WAIT)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError("DASK_SCHEDULER_ADDRESS", f"{address}: {error}", "a scheduler that answers") from None
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except OSError:
        client.close()  # type: ignore[no-untyped-call]
        raise UserError("DASK_SCHEDULER_ADDRESS", f"{address}: no worker", "a scheduler with workers") from None
    return client


def _lightgbm() -> Any:
    """LightGBM with its Dask part, which it leaves out where it was imported without scikit-learn and pandas."""
    import pandas  # noqa: F401
    import sklearn  # noqa: F401

    known = sys.modules.get("lightgbm.compat")
    if known is not None and not (known.SKLEARN_INSTALLED and known.PANDAS_INSTALLED):
        for name in [name for name in sys.modules if name.partition(".")[0] == "lightgbm"]:
            del sys.modules[name]
    import lightgbm

    quiet = logging.getLogger(__name__)
    quiet.setLevel(logging.ERROR)
    lightgbm.register_logger(quiet)  # it tells its ports on stdout, whatever its verbosity
    return lightgbm
