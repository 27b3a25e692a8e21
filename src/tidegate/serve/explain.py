"""``POST /explain``: why a score is what it is; what each feature adds to its log-odds, from the model's stored text.

LightGBM is imported by the first request that asks, in a thread of its own: it takes seconds, and predictions go on.
The answer proves itself: it is given only where base and contributions add up to the log-odds of the score as served.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from tidegate.errors import PlatformError, UserError
from tidegate.serve.http import Answer, Receive, Scope, read_body, refuse
from tidegate.serve.loaded import LoadedModel
from tidegate.serve.openapi import Operation
from tidegate.train.model_file import FeatureSchema, check

if TYPE_CHECKING:
    from tidegate.serve.prediction_log import Heard
    from tidegate.serve.scoring import Scored, Scorer
    from tidegate.train.estimator import Terms

TOLERANCE = 1e-5
"""How far base + contributions may be from the log-odds of the score."""

_LAST_BITS = 2.0**-22
"""What a float32 score and ONNX Runtime's sigmoid may be off: near 1 this alone moves the log-odds."""

_REFUSALS = {
    400: "Bad input", 405: "Not POST", 409: "The model keeps nothing to explain with", 413: "Body too large",
    500: "The model failed",
}  # fmt: skip


class Contribution(msgspec.Struct):
    """What one feature adds to the log-odds.

    `typical`: in training the 5th and 95th percentile of a number, the commonest values of a category, commonest
    first; null where it is not known.
    """

    feature: str
    value: float | str | None
    typical: list[float | str] | None
    contribution: float


class ExplainedRow(msgspec.Struct):
    """One row: `base` and the contributions add up to the log-odds of `score`."""

    score: float
    base: float
    contributions: list[Contribution]
    fallback: str | UnsetType = UNSET


class ExplainAnswer(msgspec.Struct):
    """The rows in the order asked; `model` is ``NAME@vN.M``."""

    model: str
    rows: list[ExplainedRow]


class Explainer:
    """Explains the scores of the model version in `folder`; its text is read when it is first asked."""

    def __init__(self, model: LoadedModel, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._kept: _Kept | None = None

    def explain(self, scored: Scored) -> list[ExplainedRow]:
        """Raises UserError for a model that keeps nothing to explain with, PlatformError where the sum is wrong."""
        kept = self._kept = self._kept or self._read()
        schema = self._model.schema
        found = _terms(kept.text, schema, scored)
        prove(found, scored.scores)
        told = zip(scored.rows.lists(), found.values.tolist(), scored.scores, scored.fallbacks, strict=True)
        return [
            ExplainedRow(score, found.base, _contributions(schema.names, row, found.names, added, kept), level or UNSET)
            for row, added, score, level in told
        ]

    def _read(self) -> _Kept:
        """The files are checked again: they are read long after the start."""
        check(self._folder, self._model.digest)
        text = (self._folder / "model.txt").read_text(encoding="utf-8")
        if not text.startswith(("tree\n", "{")):
            raise UserError("model.txt", text[:20], "LightGBM's text or coefficients; this model keeps neither")
        reference = json.loads((self._folder / "reference.json").read_text(encoding="utf-8"))
        return _Kept(text, reference.get("typical", {}))


class ExplainRoute:
    """Explains one request at a time, off the event loop."""

    def __init__(self, scorer: Scorer, folder: Path) -> None:
        self._scorer, self._explainer = scorer, Explainer(scorer.model, folder)
        self._pool = ThreadPoolExecutor(1, "explain")
        self.operation = Operation(
            "/explain",
            "POST",
            "What each score is made of",
            ExplainAnswer,
            scorer.decoder.type,
            _REFUSALS,
            one_of=scorer.decoder.one_of,
        )

    async def __call__(self, scope: Scope, receive: Receive, heard: Heard) -> Answer:
        """As `tidegate.serve.http.Route`."""
        scored = await self._scorer.answer(await read_body(scope, receive), heard, "explain")
        try:
            rows = await asyncio.get_running_loop().run_in_executor(self._pool, self._explainer.explain, scored)
        except UserError as error:
            return refuse(409, str(error))
        return Answer(200, msgspec.json.encode(ExplainAnswer(self._scorer.who.label, rows)))


@dataclass(frozen=True)
class _Kept:
    """What a model version's files tell beside its scores."""

    text: str
    typical: Mapping[str, Any]


def _terms(text: str, schema: FeatureSchema, scored: Scored) -> Terms:
    from tidegate.train.estimators import stores_trees, terms

    if stores_trees(text):
        # as it stands: training's way of leaving out LightGBM's helpers would hide them from other threads meanwhile
        import lightgbm  # noqa: F401
    return terms(text, schema, scored.encoded)


def prove(found: Terms, scores: Sequence[float]) -> None:
    """PlatformError unless each row's base and contributions add up to the log-odds of its score."""
    served = np.asarray(scores, np.float64)
    inside = np.clip(served, 2.0**-149, 1 - 2.0**-53)
    apart = np.abs(found.base + found.values.sum(axis=1) - np.log(inside / (1 - inside)))
    allowed = TOLERANCE + _LAST_BITS / (1 - inside)
    if (wrong := np.flatnonzero(~(apart <= allowed))).size:
        row = int(wrong[0])
        raise PlatformError(f"model.txt: row {row} is {apart[row]:.2g} off the log-odds of its score {served[row]}")


def _contributions(
    names: Sequence[str], row: Sequence[Any], told: Sequence[str], added: Sequence[float], kept: _Kept
) -> list[Contribution]:
    """Every feature in the schema's order, 0 where the model does not use it; then components of several features."""
    values, of = dict(zip(names, row, strict=True)), dict(zip(told, added, strict=True))
    every = (*names, *(name for name in told if name not in values))
    return [Contribution(name, values.get(name), kept.typical.get(name), of.get(name, 0.0)) for name in every]
