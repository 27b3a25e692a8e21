"""The three candidate families as estimators; scikit-learn is imported where a family fits with it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np

from tidegate.errors import PlatformError, UserError
from tidegate.train import boosting, export, families, graph, spread
from tidegate.train.estimator import Estimator, Terms
from tidegate.train.families import PREPARED, Family, Setting
from tidegate.train.model_file import FeatureSchema, canonical_json
from tidegate.train.prepare import Encoded, Floats, Preparation


class LightGBM(Estimator):
    """LightGBM's own text; before it a line of JSON where features are selected or projected.

    With `engine` dask it is fitted on a cluster; a child of a parent is not: its rows are the newer ones only.
    """

    family = families.LIGHTGBM
    _trees: str

    def _fit(
        self, chosen: Family, setting: Setting, encoded: Encoded, labels: Floats, weight: Floats | None, goes_on: bool
    ) -> None:
        self._structure, names = dict(chosen.structure), self.prepared.names(self.schema)
        start = self._trees if goes_on else None
        rows = self.prepared.for_trees(encoded)
        if self.engine == "dask" and start is None:
            self._trees = spread.fit(chosen, rows, labels, names, setting, self.seed)
        else:
            self._trees = boosting.fit(chosen, rows, labels, names, setting, self.seed, start, weight)

    def ahead(
        self, encoded: Encoded, labels: Floats, start: Floats, rows: Encoded, rows_start: Floats, parent: str,
        sample_weight: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """The parent's log-odds and what only the new trees add."""
        self._restore(parent)
        chosen, setting = families.configured(self.family, self.params)
        fitted, seen = self.prepared.for_trees(encoded), self.prepared.for_trees(rows)
        return rows_start + boosting.new_trees(chosen, fitted, labels, start, setting, self.seed, seen, sample_weight)

    @property
    def text(self) -> str:
        """LightGBM's text."""
        if self._plain:
            return self._trees
        return canonical_json({"prepared": self.prepared.dump(), "structure": self._structure}) + "\n" + self._trees

    def log_odds(self, encoded: Encoded) -> Floats:
        """By LightGBM."""
        return boosting.log_odds(self._trees, self.prepared.for_trees(encoded))

    def terms(self, encoded: Encoded) -> Terms:
        """By LightGBM's own algorithm for trees, of features and components."""
        values = boosting.contributions(self._trees, self.prepared.for_trees(encoded))
        base = float(values[0, -1]) if len(values) else 0.0
        return Terms(self.prepared.names(self.schema), values[:, :-1], base)

    def shortened(self, trees: int) -> Self:
        """Boosting's first trees: coarser, and a model all the same."""
        total = len(export.parse_trees(self._trees))
        if not 0 < trees < total:
            raise UserError("--trees", trees, f"1 to {total - 1}: the model has {total} trees")
        self._trees = boosting.first_trees(self._trees, trees)
        return self

    def onnx(self) -> bytes:
        """Tree by tree."""
        return export.to_onnx(self._trees, len(self.schema.features), None if self._plain else self.prepared)

    def thresholds(self) -> list[tuple[int, float]]:
        """Of its trees."""
        return self._placed(export.parse_trees(self._trees))

    def _restore(self, text: str) -> None:
        head, self._trees = text.split("\n", 1) if text.startswith("{") else ("", text)
        every = Preparation(passed=tuple(range(len(self.schema.features))))
        self.prepared = Preparation.parse(json.loads(head)["prepared"]) if head else every

    @property
    def _plain(self) -> bool:
        return not self.prepared.numbers and len(self.prepared.passed) == len(self.schema.features)


class LogisticRegression(Estimator):
    """Standardised numbers and one-hot codes; stored are its coefficients as JSON."""

    family = families.LOGISTIC_REGRESSION
    linear = True
    _weights: Floats

    def _fit(
        self, chosen: Family, setting: Setting, encoded: Encoded, labels: Floats, weight: Floats | None, goes_on: bool
    ) -> None:
        from sklearn.linear_model import LogisticRegression as Solver

        self._structure = dict(chosen.structure)
        solver = Solver(**chosen.fitting, max_iter=setting.trees, warm_start=True)
        before = self._weights if goes_on else None
        if before is not None:
            solver.classes_ = self.classes_
            solver.coef_, solver.intercept_ = before[None, 1:].copy(), before[:1].copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge: a minor stops early on purpose
            solver.fit(self.prepared.for_linear(encoded), labels.astype(int), weight)
        found = np.concatenate([solver.intercept_, solver.coef_[0]])
        self._weights = found if before is None else before + setting.learning_rate * (found - before)

    @property
    def text(self) -> str:
        """Intercept and coefficients, with how rows are prepared."""
        weights = {"intercept": float(self._weights[0]), "coefficients": self._weights[1:].tolist()}
        kind = {"family": self.family.name, "structure": self._structure}
        return canonical_json({**kind, "prepared": self.prepared.dump(), **weights})

    def log_odds(self, encoded: Encoded) -> Floats:
        """By its coefficients."""
        return np.asarray(self.prepared.for_linear(encoded) @ self._weights[1:] + self._weights[0])

    def terms(self, encoded: Encoded) -> Terms:
        """Coefficient times prepared value; a component's belongs to the numbers that it is made of."""
        whole, components = replace(self.prepared, components=()), self.prepared.components
        numbers, codes = np.split(self._weights[1:], [self.prepared.width])
        of_numbers = whole.numeric(encoded) * (numbers @ np.array(components) if components else numbers)
        of_codes = np.append(codes, 0.0)[self.prepared.codes(encoded)]
        columns = (*self.prepared.numbers, *(column for column, _ in self.prepared.one_hot))
        names = tuple(self.schema.names[column] for column in columns)
        return Terms(names, np.hstack([of_numbers, of_codes]), float(self._weights[0]))

    def onnx(self) -> bytes:
        """Scaling, one-hot and coefficients in one graph."""
        return graph.linear_model(self._weights[1:], self._weights[0], len(self.schema.features), self.prepared)

    def _restore(self, text: str) -> None:
        stored = json.loads(text)
        self.prepared = Preparation.parse(stored["prepared"])
        self._weights = np.array([stored["intercept"], *stored["coefficients"]])


class HistGradientBoosting(Estimator):
    """scikit-learn's histogram boosting, categories by their codes as numbers; stored is its ONNX alone."""

    family = families.HIST_GRADIENT_BOOSTING

    def _fit(
        self, chosen: Family, setting: Setting, encoded: Encoded, labels: Floats, weight: Floats | None, goes_on: bool
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        self._structure = dict(chosen.structure)
        options = {key: value for key, value in families.hints_of(chosen, setting).items() if key not in PREPARED}
        self._model = HistGradientBoostingClassifier(**options, early_stopping=False, random_state=self.seed)
        with threadpool_limits(boosting.THREADS):
            self._model.fit(self.prepared.for_trees(encoded), labels.astype(int), weight)

    @property
    def text(self) -> str:
        """Its family and structure only: it cannot be trained on."""
        return canonical_json({"family": self.family.name, "structure": self._structure})

    def log_odds(self, encoded: Encoded) -> Floats:
        """By scikit-learn."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(boosting.THREADS):
            return np.asarray(self._model.decision_function(self.prepared.for_trees(encoded)), np.float64)

    def onnx(self) -> bytes:
        """Tree by tree; the baseline is a tree of one leaf."""
        none = np.zeros(0, np.int64)
        baseline = export.Tree(none, np.zeros(0), none, none, none, np.ravel(self._model._baseline_prediction))
        return export.trees_to_onnx((baseline, *self._trees()), len(self.schema.features), self.prepared)

    def thresholds(self) -> list[tuple[int, float]]:
        """Of its trees."""
        return self._placed(self._trees())

    def _trees(self) -> tuple[export.Tree, ...]:
        return tuple(export.tree_of_nodes(found.nodes) for stage in self._model._predictors for found in stage)


ESTIMATORS: Mapping[str, type[Estimator]] = {
    kind.family.name: kind for kind in (LightGBM, HistGradientBoosting, LogisticRegression)
}


def estimator(chosen: Family, setting: Setting, schema: FeatureSchema, seed: int, engine: str = "local") -> Estimator:
    """An estimator that is not fitted yet; `engine` is where LightGBM is fitted from scratch: local or dask."""
    return ESTIMATORS[chosen.name](schema, seed, engine, **families.hints_of(chosen, setting))


def restored(text: str, schema: FeatureSchema) -> Estimator:
    """The estimator of a stored text, to score rows with and to train on; UserError where its family has no text."""
    found = ESTIMATORS[_family_of(_stored(text)).name](schema)
    found._restore(text)
    return found


def terms(text: str, schema: FeatureSchema, encoded: Encoded) -> Terms:
    """`Estimator.terms` of a stored text; UserError for a family that keeps nothing to tell it from."""
    family = _family_of(_stored(text))
    return (ESTIMATORS[family.name](schema) if family.why_not_stateful else restored(text, schema)).terms(encoded)


def stores_trees(text: str) -> bool:
    """Whether a stored text is LightGBM's."""
    return _family_of(_stored(text)) is families.LIGHTGBM


def contributions(text: str, schema: FeatureSchema, encoded: Encoded) -> tuple[tuple[str, ...], Floats]:
    """Names, and what each adds to the log-odds of each row, [N, names]: SHAP values, linear terms beside their mean.

    None of a family that stores no text.
    """
    family = _family_of(_stored(text))
    if family.why_not_stateful:
        return (), np.zeros((len(encoded), 0))
    found = terms(text, schema, encoded)
    linear = ESTIMATORS[family.name].linear
    return found.names, found.values - found.values.mean(axis=0) if linear else found.values


def architecture_of(text: str) -> Family:
    """The family of a stored text, with the structure that it was made with."""
    stored = _stored(text)
    base = _family_of(stored)
    if "structure" in stored or base is not families.LIGHTGBM:
        return families.configured(base, stored.get("structure", {}))[0]
    said = dict(line[1:-1].split(": ", 1) for line in text.splitlines() if line.startswith("[") and ": " in line)
    kept = {key: type(value)(said.get(key, value)) for key, value in base.structure.items()}
    return families.configured(base, kept)[0]


def _family_of(stored: Mapping[str, Any]) -> Family:
    return families.family(str(stored.get("family", families.LIGHTGBM.name)))


def _stored(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text.split("\n", 1)[0]) if text.startswith("{") else {}
    except ValueError:
        raise PlatformError("model.txt: not a model's text") from None
    return found if isinstance(found, dict) else {}
