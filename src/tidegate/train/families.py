"""Model families as plain data: structure, defaults, search space, and what makes two models of one architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.errors import UserError
from tidegate.train.model_file import canonical_json, sha256_text

PREPARED: Mapping[str, Any] = {"select": 1.0, "components": 0}
"""Of any family: the share of features kept, and the principal components that stand for the numbers (0: none)."""


@dataclass(frozen=True)
class Setting:
    """One way to fit: `trees` rounds at `learning_rate`; `replay` is the share of earlier rows mixed in.

    A round is a new tree of a boosted family, an iteration of a linear one; a linear model's minor goes
    `learning_rate` of the way from its parent's coefficients.
    """

    trees: int
    learning_rate: float
    replay: float = field(default=0.0)


@dataclass(frozen=True)
class Range:
    """Where one parameter is searched, both ends included; `log`: evenly over its logarithm, `whole`: integers."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Family:
    """One family: `structure` is what its architecture digest covers, `fitting` may change from version to version.

    `rounds` is the family's own name for the number of rounds; `why_not_stateful` is empty where it can be trained on.
    """

    name: str
    structure: Mapping[str, Any]
    fitting: Mapping[str, Any]
    defaults: Setting
    rounds: str
    space: tuple[Range, ...]
    why_not_stateful: str = ""
    minors: tuple[Range, ...] = ()
    """Where the rounds and the learning rate of a minor are searched."""

    @property
    def architecture_digest(self) -> str:
        """``sha256:<hex>`` over the family's name and structure."""
        return sha256_text(canonical_json({"family": self.name, "structure": dict(self.structure)}))


_PREPARING = (Range("select", 0.5, 1.5), Range("components", -5, 6, whole=True))
"""About half of each range leaves it off: above 1, or below 2, since one component says less than what it replaces."""

_REPLAY = Range("replay", 0.05, 1.0)

LIGHTGBM = Family(
    name="lightgbm",
    structure={"objective": "binary", "num_leaves": 31, "max_bin": 127, "boosting": "gbdt"},
    fitting={"min_data_in_leaf": 100, "lambda_l2": 10.0, "feature_fraction": 0.7, "cat_smooth": 10.0},
    defaults=Setting(trees=200, learning_rate=0.06),
    rounds="num_boost_round",
    space=(
        Range("num_boost_round", 50, 300, log=True, whole=True),
        Range("learning_rate", 0.02, 0.2, log=True),
        Range("num_leaves", 7, 63, log=True, whole=True),
        Range("min_data_in_leaf", 20, 2000, log=True, whole=True),
        Range("lambda_l2", 1, 100, log=True),
        *_PREPARING,
    ),
    minors=(Range("num_boost_round", 5, 80, log=True, whole=True), Range("learning_rate", 0.005, 0.1, log=True)),
)

HIST_GRADIENT_BOOSTING = Family(
    name="hist_gradient_boosting",
    structure={"max_leaf_nodes": 31, "max_bins": 255},
    fitting={"min_samples_leaf": 100, "l2_regularization": 10.0, "max_features": 0.7},
    defaults=Setting(trees=100, learning_rate=0.06),
    rounds="max_iter",
    space=(
        Range("max_iter", 50, 200, log=True, whole=True),
        Range("learning_rate", 0.02, 0.2, log=True),
        Range("max_leaf_nodes", 7, 63, log=True, whole=True),
        Range("min_samples_leaf", 20, 2000, log=True, whole=True),
        Range("l2_regularization", 1, 100, log=True),
        *_PREPARING,
    ),
    why_not_stateful="HistGradientBoosting: its trees are valid on the same data only",
)

LOGISTIC_REGRESSION = Family(
    name="logistic_regression",
    structure={},
    fitting={"C": 0.1},
    defaults=Setting(trees=200, learning_rate=1.0),
    rounds="max_iter",
    space=(Range("C", 1e-4, 10, log=True), *_PREPARING),
    minors=(Range("max_iter", 5, 200, log=True, whole=True), Range("learning_rate", 0.1, 1.0)),
)

FAMILIES = {found.name: found for found in (LIGHTGBM, HIST_GRADIENT_BOOSTING, LOGISTIC_REGRESSION)}


def family(name: str) -> Family:
    """The family called `name`; UserError lists the known ones."""
    if name not in FAMILIES:
        raise UserError("training.families", name, f"one of {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def at(base: Family, point: Mapping[str, Any]) -> tuple[Family, Setting]:
    """The family at a point of its search space; what is not searched stays as in `base`."""
    components = point["components"] if point["components"] > 1 else 0
    prepared = {"select": min(1.0, point["select"]), "components": components}
    return configured(base, {**base.structure, **base.fitting, **point, **prepared})


def configured(base: Family, hints: Mapping[str, Any]) -> tuple[Family, Setting]:
    """The family, and how it is fitted from scratch, where `hints` stand before its own defaults.

    `select` and `components` belong to the structure, and are not named in it where they change nothing.
    """
    rest = dict(hints)
    setting = Setting(
        int(rest.pop(base.rounds, base.defaults.trees)),
        float(rest.pop("learning_rate", base.defaults.learning_rate)),
    )
    structure = {key: rest.pop(key, value) for key, value in base.structure.items()}
    prepared = {key: rest.pop(key) for key in PREPARED if key in rest}
    structure |= {key: value for key, value in prepared.items() if value != PREPARED[key]}
    return replace(base, structure=structure, fitting={**base.fitting, **rest}), setting


def hints_of(chosen: Family, setting: Setting) -> dict[str, Any]:
    """The inverse of `configured`: every parameter by its own name."""
    rounds = {chosen.rounds: setting.trees, "learning_rate": setting.learning_rate}
    return {**chosen.structure, **chosen.fitting, **rounds}


def minor_space(chosen: Family, replay: float) -> tuple[Range, ...]:
    """Where a minor's setting is searched; its replay, too, up to all earlier rows, unless the Model file has none."""
    return (*chosen.minors, *((_REPLAY,) if replay else ()))


def minor_at(chosen: Family, point: Mapping[str, float]) -> Setting:
    """The setting at a point of `minor_space`."""
    return Setting(int(point[chosen.rounds]), point["learning_rate"], point.get("replay", 0.0))


def stateful_settings(chosen: Family, replay: float) -> tuple[Setting, ...]:
    """The few settings that a stateful run compares; `replay` is the Model file's share."""
    shares = (replay,) if replay in (0.0, 1.0) else (0.0, replay)
    steps = ((10, 0.3), (100, 1.0)) if chosen.name == LOGISTIC_REGRESSION.name else ((20, 0.02), (40, 0.05))
    return tuple(Setting(rounds, rate, share) for share in shares for rounds, rate in steps)
