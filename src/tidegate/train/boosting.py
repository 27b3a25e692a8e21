"""LightGBM itself: its text in, its text out. The same rows, parameters and seed give the same text, byte for byte."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.families import Family, Setting

THREADS = 1
"""Fixed, and part of the model's text. One: beside serving on two cores, two threads that wait for each other took ten
times as long (measured 5.1 s for 0.5 s), and alone they gain a sixth."""


def parameters(chosen: Family, setting: Setting, seed: int) -> dict[str, Any]:
    """LightGBM's parameters for one fit."""
    fixed = {"deterministic": True, "force_row_wise": True, "num_threads": THREADS, "verbosity": -1, "seed": seed}
    structure = {key: value for key, value in chosen.structure.items() if key not in ("select", "components")}
    return {**structure, **chosen.fitting, "learning_rate": setting.learning_rate, **fixed}


def fit(
    chosen: Family,
    encoded: NDArray[np.float32],
    labels: NDArray[np.float64],
    names: Sequence[str],
    setting: Setting,
    seed: int,
    parent: str | None = None,
    weight: NDArray[np.float64] | None = None,
) -> str:
    """LightGBM's text of a model fitted on float32 [N, F] rows; with `parent`, its trees come first, unchanged."""
    lightgbm, options = _lightgbm(), parameters(chosen, setting, seed)
    data = lightgbm.Dataset(encoded, labels, weight=weight, feature_name=list(names), params=options)
    start = None if parent is None else lightgbm.Booster(model_str=parent)
    booster = lightgbm.train(options, data, num_boost_round=setting.trees, init_model=start)
    return str(booster.model_to_string(num_iteration=-1))


def new_trees(
    chosen: Family,
    encoded: NDArray[np.float32],
    labels: NDArray[np.float64],
    start: NDArray[np.float64],
    setting: Setting,
    seed: int,
    ahead: NDArray[np.float32],
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What the trees that `fit` would add to a parent add to the log-odds of the rows `ahead`, [M].

    `start` is the parent's log-odds on the training rows, [N]: computed once where several settings are tried.
    """
    lightgbm, options = _lightgbm(), parameters(chosen, setting, seed)
    data = lightgbm.Dataset(encoded, labels, weight=weight, init_score=start, params=options)
    booster = lightgbm.train(options, data, num_boost_round=setting.trees)
    return np.asarray(booster.predict(ahead, raw_score=True, num_threads=THREADS), np.float64)


def log_odds(text: str, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-odds of the positive class by the trained model itself, [N]."""
    booster = _lightgbm().Booster(model_str=text)
    return np.asarray(booster.predict(encoded, raw_score=True, num_threads=THREADS), np.float64)


def contributions(text: str, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each feature adds to the log-odds of each row, and last the base, [N, F + 1]: SHAP values by LightGBM."""
    booster = _lightgbm().Booster(model_str=text)
    return np.asarray(booster.predict(encoded, pred_contrib=True, num_threads=THREADS), np.float64)


def first_trees(text: str, count: int) -> str:
    """The text of a model's first `count` trees."""
    return str(_lightgbm().Booster(model_str=text).model_to_string(num_iteration=count))


def probability(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds to probability, as LightGBM's binary objective does."""
    return np.asarray(1.0 / (1.0 + np.exp(-odds)))


def _lightgbm() -> ModuleType:
    """LightGBM without its optional helpers, which take 0.9 of the 1.1 seconds of its import and are not used here."""
    if "lightgbm" not in sys.modules:
        absent = [name for name in ("sklearn", "pandas", "matplotlib", "dask", "pyarrow") if name not in sys.modules]
        sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
        try:
            importlib.import_module("lightgbm")
        finally:
            for name in absent:
                del sys.modules[name]
    return sys.modules["lightgbm"]
