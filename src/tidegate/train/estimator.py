"""What every candidate family is behind scikit-learn's estimator API, and what is stored and exported of it.

An estimator takes encoded rows, float32 [N, F] in the order of its feature schema. Its parameters are the family's own
names; what is not given has the family's default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.train import export, families
from tidegate.train.boosting import probability
from tidegate.train.families import PREPARED, Family, Setting
from tidegate.train.model_file import FeatureSchema
from tidegate.train.prepare import Encoded, Floats, prepare


@dataclass(frozen=True)
class Terms:
    """``base + values.sum(axis=1)`` are the log-odds of N rows; `values` [N, names]."""

    names: tuple[str, ...]
    values: Floats
    base: float


class Estimator:
    """get_params, set_params, fit, predict and predict_proba as scikit-learn means them; `fit` may go on from a parent.

    After `fit`: `text` is what is stored for training on, `prepared` how rows are prepared, `classes_` [0, 1].
    """

    family: ClassVar[Family]
    linear: ClassVar[bool] = False

    def __init__(self, schema: FeatureSchema, seed: int = 7, engine: str = "local", **params: Any) -> None:
        self.schema, self.seed, self.engine, self.params = schema, seed, engine, params

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Every parameter that was given, by name."""
        return {"schema": self.schema, "seed": self.seed, "engine": self.engine, **self.params}

    def set_params(self, **changed: Any) -> Self:
        """Change some parameters."""
        for name in ("schema", "seed", "engine"):
            setattr(self, name, changed.pop(name, getattr(self, name)))
        self.params = {**self.params, **changed}
        return self

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            "classifier", TargetTags(True), classifier_tags=ClassifierTags(), input_tags=InputTags(sparse=False)
        )

    def fit(
        self, encoded: Encoded, labels: Floats, parent: str | None = None, sample_weight: Floats | None = None
    ) -> Self:
        """Fit on rows [N, F] and 0/1 labels [N]; with a parent's text the model goes on from it."""
        chosen, setting = families.configured(self.family, self.params)
        if parent is None:
            options = {**PREPARED, **chosen.structure}
            share, count = float(options["select"]), int(options["components"])
            self.prepared = prepare(encoded, labels, self.schema, share, count, self.linear)
        else:
            self._restore(parent)
        self.classes_ = np.array([0, 1])
        self._fit(chosen, setting, encoded, labels, sample_weight, goes_on=parent is not None)
        return self

    def predict_proba(self, encoded: Encoded) -> Floats:
        """Probabilities of the classes 0 and 1, [N, 2]."""
        positive = probability(self.log_odds(np.asarray(encoded, np.float32)))
        return np.column_stack([1 - positive, positive])

    def predict(self, encoded: Encoded) -> NDArray[np.int64]:
        """The likelier class, [N]."""
        return (self.predict_proba(encoded)[:, 1] > 0.5).astype(np.int64)

    def ahead(
        self, encoded: Encoded, labels: Floats, start: Floats, rows: Encoded, rows_start: Floats, parent: str,
        sample_weight: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Log-odds on `rows` of the child of `parent` that `fit` would give; the starts are the parent's log-odds."""
        return self.fit(encoded, labels, parent, sample_weight).log_odds(rows)

    @property
    def text(self) -> str:
        """What is stored of the trained model: data, never code."""
        raise NotImplementedError

    def log_odds(self, encoded: Encoded) -> Floats:
        """Log-odds of the positive class by the trained model itself, [N]."""
        raise NotImplementedError

    def terms(self, encoded: Encoded) -> Terms:
        """What the log-odds of each row are made of; UserError where the family keeps nothing to tell it from."""
        raise UserError("model", self.family.name, "lightgbm or logistic_regression: of any other only ONNX is kept")

    def shortened(self, trees: int) -> Self:
        """The same model of its first `trees` trees; UserError where it has no such part."""
        raise UserError("--trees", f"{trees} for a {self.family.name}", "a lightgbm model: no other is kept by trees")

    def onnx(self) -> bytes:
        """The model as it is served: float32 ``features`` [N, F] -> ``score`` [N, 1]."""
        raise NotImplementedError

    def thresholds(self) -> list[tuple[int, float]]:
        """Column of the feature schema and float32 value of every split on an encoded number or code."""
        return []

    def check_export(self, exported: bytes, encoded: Encoded, scores: Floats) -> float:
        """Largest distance of the export from `scores`, its own of these rows, and on `export.edge_rows` of them.

        Raises PlatformError when it is above the tolerance.
        """
        edges = export.edge_rows(self.thresholds(), encoded)
        on_edges = export.check_export(exported, edges, probability(self.log_odds(edges)))
        return max(export.check_export(exported, encoded, scores), on_edges)

    def _placed(self, trees: tuple[export.Tree, ...]) -> list[tuple[int, float]]:
        """Thresholds of trees over prepared columns, by column of the schema; components have none."""
        columns = [None] * self.prepared.width + [*self.prepared.passed]
        found = ((columns[f], t) for tree in trees for f, t in zip(tree.feature, tree.threshold, strict=True))
        return [(column, float(value)) for column, value in found if column is not None]

    def _fit(
        self, chosen: Family, setting: Setting, encoded: Encoded, labels: Floats, weight: Floats | None, goes_on: bool
    ) -> None:
        raise NotImplementedError

    def _restore(self, text: str) -> None:
        raise UserError("parent", self.family.name, self.family.why_not_stateful)
