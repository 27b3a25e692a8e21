"""What stands between encoded rows and a model: features kept, numbers scaled or projected, categories one-hot.

Computed in float64 here and in the ONNX graph (`tidegate.train.graph`), so that a tree behind a projection meets the
same float32 in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.model_file import FeatureSchema

CLIP = 10.0
"""Standardised numbers are held within +-CLIP, so that one outlier, or infinity, does not decide alone."""

_BINS = 16
Floats = NDArray[np.float64]
Encoded = NDArray[np.float32]


@dataclass(frozen=True)
class Preparation:
    """Columns are positions in the feature schema. Prepared rows are: numbers (or components), one-hot codes, `passed`.

    `one_hot` holds (column, largest code); a code that is none of 0 to the largest is no column's. `components` is
    [k][numbers], empty where the numbers are not projected.
    """

    numbers: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    components: tuple[tuple[float, ...], ...] = ()
    one_hot: tuple[tuple[int, int], ...] = ()
    passed: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers or components come first."""
        return len(self.components or self.numbers)

    def dump(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Preparation:
        """The inverse of `dump`."""
        nested = ("components", "one_hot")
        parsed: dict[str, Any] = {
            key: tuple(map(tuple, value)) if key in nested else tuple(value) for key, value in plain.items()
        }
        return cls(**parsed)

    def names(self, schema: FeatureSchema) -> tuple[str, ...]:
        """Names of the prepared columns of a tree model."""
        numbers = [f"component_{k}" for k in range(len(self.components))] or [schema.names[c] for c in self.numbers]
        return (*numbers, *(schema.names[column] for column in self.passed))

    def numeric(self, encoded: Encoded) -> Floats:
        """Numbers standardised (null is the mean) and projected, [N, width]."""
        raw = encoded[:, list(self.numbers)].astype(np.float64)
        scaled = (raw - np.array(self.mean)) / np.array(self.scale)
        kept = np.clip(np.where(np.isnan(scaled), 0.0, scaled), -CLIP, CLIP)
        return kept @ np.array(self.components).T if self.components else kept

    def codes(self, encoded: Encoded) -> NDArray[np.int64]:
        """For each one-hot feature the position of its 1 among all one-hot columns, -1 where it has none, [N, K]."""
        found = np.full((len(encoded), len(self.one_hot)), -1, np.int64)
        start = 0
        for k, (column, largest) in enumerate(self.one_hot):
            values = encoded[:, column]
            known = (values >= 0) & (values <= largest) & (values == np.floor(values))
            found[known, k] = start + values[known].astype(np.int64)
            start += largest + 1
        return found

    def for_trees(self, encoded: Encoded) -> Encoded:
        """Float32 rows as a tree model takes them, [N, width + passed]."""
        passed = encoded[:, list(self.passed)]
        return np.hstack([self.numeric(encoded).astype(np.float32), passed]) if self.numbers else passed

    def for_linear(self, encoded: Encoded) -> Any:
        """A scipy CSR matrix [N, width + one-hot columns]."""
        from scipy import sparse

        codes = self.codes(encoded)
        rows, _ = np.nonzero(codes >= 0)
        positions = codes[codes >= 0]
        total = sum(largest + 1 for _, largest in self.one_hot)
        flags = sparse.csr_matrix((np.ones(len(positions)), (rows, positions)), shape=(len(codes), total))
        return sparse.hstack([sparse.csr_matrix(self.numeric(encoded)), flags], format="csr")


def prepare(
    encoded: Encoded, labels: Floats, schema: FeatureSchema, select: float, components: int, linear: bool
) -> Preparation:
    """What training rows [N, F] give: the most informative share `select` of the features, then the rest."""
    kept = selected(encoded, labels, schema, select)
    numeric = [column for column in kept if schema.features[column].kind == "numeric"]
    others = tuple(column for column in kept if column not in numeric)
    if not linear and not (components and numeric):
        return Preparation(passed=kept)
    raw = encoded[:, numeric].astype(np.float64)
    finite = np.where(np.isfinite(raw), raw, np.nan)
    seen = np.maximum(np.isfinite(raw).sum(axis=0), 1)
    mean = np.nansum(finite, axis=0) / seen
    spread = np.sqrt(np.nansum((finite - mean) ** 2, axis=0) / seen)
    scaling = (tuple(numeric), tuple(mean.tolist()), tuple(np.where(spread > 0, spread, 1.0).tolist()))
    projection = _components(Preparation(*scaling).numeric(encoded), components)
    if not linear:
        return Preparation(*scaling, projection, passed=others)
    largest = tuple((column, len(schema.features[column].categories or ())) for column in others)
    return Preparation(*scaling, projection, one_hot=largest)


def selected(encoded: Encoded, labels: Floats, schema: FeatureSchema, share: float) -> tuple[int, ...]:
    """Columns of the share of features, at least one, that tell most about the label, in the order of the schema."""
    total = len(schema.features)
    count = max(1, round(share * total))
    if count == total:
        return tuple(range(total))
    kinds = [feature.kind for feature in schema.features]
    told = [information(_binned(encoded[:, c], kinds[c]), labels) for c in range(total)]
    return tuple(sorted(sorted(range(total), key=lambda c: -told[c])[:count]))


def information(cells: NDArray[np.int64], labels: Floats) -> float:
    """Mutual information in nats of a cell number [N] from 0 and a 0/1 label [N]."""
    joint = np.stack([np.bincount(cells, labels == side) for side in (0, 1)]) / len(labels)
    apart = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _binned(values: Encoded, kind: str) -> NDArray[np.int64]:
    if kind == "category":
        return np.asarray(values, np.int64)
    edges = np.nanquantile(values, np.arange(1, _BINS) / _BINS) if not np.isnan(values).all() else np.zeros(1)
    return np.where(np.isnan(values), _BINS, np.searchsorted(edges, values))


def _components(scaled: Floats, count: int) -> tuple[tuple[float, ...], ...]:
    """The first `count` principal components, signs fixed, to 6 digits: stable against the last bits of LAPACK."""
    if not count or not scaled.shape[1]:
        return ()
    _, vectors = np.linalg.eigh(np.atleast_2d(np.cov(scaled, rowvar=False)))
    first = vectors[:, ::-1].T[:count]
    turned = first * np.sign(first[np.arange(len(first)), np.abs(first).argmax(axis=1)])[:, None]
    return tuple(map(tuple, np.round(turned, 6).tolist()))
