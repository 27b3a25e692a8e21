"""What may be kept of rows that are not retained: counts, histograms, sufficient statistics, ranges. Pure.

No number here is one row's own: bins hold at least `LEAST` rows, ranges are the contract's or rounded outward, and the
rows that a service answers before it is ready are drawn from the ranges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tidegate.train.model_file import Feature, FeatureSchema

if TYPE_CHECKING:
    from tidegate.validate.contract import Contract

LEAST = 20
"""Rows that a bin must hold, and that a range measured on rows leaves out on each side."""
BINS = 20

Encoded = NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]


def ranges_of(encoded: Encoded, schema: FeatureSchema, contract: Contract | None) -> dict[str, tuple[float, float]]:
    """The range of each numeric feature: the contract's of that column, else one that all but a few rows are in."""
    found = {}
    for column, feature in enumerate(schema.features):
        if feature.kind == "numeric":
            found[feature.name] = _stated(feature.name, contract) or _measured(encoded[:, column])
    return found


def _stated(name: str, contract: Contract | None) -> tuple[float, float] | None:
    tables = contract.tables.values() if contract else ()
    limits = [(one.low, one.high) for table in tables for one in table.columns if one.name == name]
    numbers = [(float(low), float(high)) for low, high in limits if _is_number(low) and _is_number(high)]  # type: ignore[arg-type]
    return (min(low for low, _ in numbers), max(high for _, high in numbers)) if numbers else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _measured(values: Encoded) -> tuple[float, float]:
    known = np.sort(values[np.isfinite(values)]).astype(float)
    if not len(known):
        return 0.0, 0.0
    left_out = min(LEAST, (len(known) - 1) // 2)
    return outward(known[left_out], math.floor), outward(known[-1 - left_out], math.ceil)


def outward(value: float, to: Any) -> float:
    """The value at two significant digits, away from the rows."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{to(value / unit) * unit:.6g}")


def clip(encoded: Encoded, schema: FeatureSchema, ranges: Ranges) -> Encoded:
    """Rows [N, F] with numeric features in their ranges; null stays null."""
    clipped = encoded.copy()
    for column, feature in enumerate(schema.features):
        if feature.name in ranges:
            clipped[:, column] = np.clip(encoded[:, column], *ranges[feature.name])
    return clipped


def kept(encoded: Encoded, labels: NDArray[np.float64], schema: FeatureSchema, ranges: Ranges) -> dict[str, Any]:
    """What stays of clipped rows: for each feature counts, sums and a histogram with the labels' sum of each bin."""
    features = {}
    for column, feature in enumerate(schema.features):
        values = encoded[:, column]
        summary = _numbers if feature.kind == "numeric" else _categories
        features[feature.name] = summary(values, labels, feature, ranges.get(feature.name, (0.0, 0.0)))
    return {"rows": len(labels), "label_sum": float(labels.sum()), "features": features}


def _numbers(values: Encoded, labels: NDArray[np.float64], _: Feature, limits: tuple[float, float]) -> dict[str, Any]:
    known = np.isfinite(values)
    real, truth = values[known].astype(float), labels[known]
    edges: NDArray[np.float64] = (
        np.linspace(*limits, BINS + 1) if limits[0] < limits[1] else np.array([limits[0], limits[0] + 1.0])
    )
    where = np.clip(np.searchsorted(edges, real, "right") - 1, 0, len(edges) - 2)
    counts = np.bincount(where, minlength=len(edges) - 1)
    sums = np.bincount(where, truth, minlength=len(edges) - 1)
    told = {"count": len(real), "missing": int((~known).sum())}
    if len(real) < LEAST:
        return told
    return {
        **told,
        "sum": float(real.sum()),
        "sum_squares": float(real @ real),
        **merged(edges, counts, np.asarray(sums, np.float64)),
    }


def merged(edges: NDArray[np.float64], counts: NDArray[Any], sums: NDArray[np.float64]) -> dict[str, Any]:
    """Neighbouring bins taken together until each holds `LEAST` rows; the rest goes into the last one.

    Returns ``edges`` [B + 1], ``counts`` [B] and ``label_sums`` [B].
    """
    limits = [float(edges[0])]
    rows: list[int] = []
    truths: list[float] = []
    open_rows, open_truth = 0, 0.0
    for upper, count, truth in zip(edges[1:], counts, sums, strict=True):
        open_rows, open_truth = open_rows + int(count), open_truth + float(truth)
        if open_rows >= LEAST:
            limits, rows, truths = [*limits, float(upper)], [*rows, open_rows], [*truths, open_truth]
            open_rows, open_truth = 0, 0.0
    if rows:
        limits[-1], rows[-1], truths[-1] = float(edges[-1]), rows[-1] + open_rows, truths[-1] + open_truth
    return {"edges": limits if rows else [], "counts": rows, "label_sums": truths}


def _categories(
    values: Encoded, labels: NDArray[np.float64], feature: Feature, _: tuple[float, float]
) -> dict[str, Any]:
    """Rows and label sums of each category of the schema; those with few rows are told together."""
    names = ("", *(feature.categories or ()))
    counts = np.bincount(values.astype(int), minlength=len(names))
    sums = np.bincount(values.astype(int), labels, minlength=len(names))
    enough = [code for code in range(1, len(names)) if counts[code] >= LEAST]
    rest = int(counts.sum() - counts[enough].sum())
    told = {names[code]: [int(counts[code]), float(sums[code])] for code in enough}
    return {"count": int(counts.sum()), "categories": told, "others": rest if rest >= LEAST else 0}


def reference_rows(schema: FeatureSchema, ranges: Ranges, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows drawn from the ranges and the schema's categories: of nobody."""
    draw = np.random.default_rng(seed)
    return [{one.name: _drawn(one, ranges, draw) for one in schema.features} for _ in range(count)]


def _drawn(feature: Feature, ranges: Ranges, draw: np.random.Generator) -> float | str | None:
    if feature.kind == "category":
        return str(draw.choice(feature.categories)) if feature.categories else None
    return float(np.float32(draw.uniform(*ranges[feature.name])))


def with_ranges(text: str, ranges: Ranges) -> str:
    """LightGBM's text with ranges in ``feature_infos`` in the place of the least and the largest value seen."""
    names = re.search(r"^feature_names=(.*)$", text, flags=re.MULTILINE)
    infos = re.search(r"^feature_infos=(.*)$", text, flags=re.MULTILINE)
    if names is None or infos is None:
        return text
    pairs = zip(names[1].split(), infos[1].split(), strict=True)
    told = " ".join(_info(name, info, ranges) for name, info in pairs)
    return text[: infos.start(1)] + told + text[infos.end(1) :]


def _info(name: str, info: str, ranges: Ranges) -> str:
    if not info.startswith("["):
        return info
    if name in ranges:
        low, high = ranges[name]
    else:
        numbers: Sequence[float] = [float(part) for part in info.strip("[]").split(":")]
        low, high = outward(numbers[0], math.floor), outward(numbers[1], math.ceil)
    return f"[{low:.10g}:{high:.10g}]"
