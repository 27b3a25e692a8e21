"""The value of a guarded slice in a logged row, read by the feature schema of the version that answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tidegate.errors import UserError
from tidegate.observations import Prediction
from tidegate.spec import Model
from tidegate.train.model_file import FeatureSchema, folder_name
from tidegate.workload import load_workload

UNKNOWN = "?"
"""Value of a row that does not hold the column."""


class SliceValues:
    """Reads slices of one workload from prediction rows; schemas are read once a digest from FOLDER/models."""

    def __init__(self, folder: Path, workload: str) -> None:
        self._models, self._workload = folder / "models", workload
        self._names: dict[str, tuple[str, ...]] = {}

    def readers(self, slices: Sequence[str]) -> list[Callable[[Prediction], str]]:
        """One function a slice, in their order; without slices the workload is not loaded."""
        if not slices:
            return []
        columns = load_workload(self._workload).slices
        return [self._reader(columns[name]) for name in slices]

    def _reader(self, column: str) -> Callable[[Prediction], str]:
        def value(row: Prediction) -> str:
            names = self._schema(row.digest)
            at = names.index(column) if column in names else len(row.features)
            found = row.features[at] if at < len(row.features) else None
            return UNKNOWN if found is None else str(found)

        return value

    def _schema(self, digest: str) -> tuple[str, ...]:
        if digest not in self._names:
            self._names[digest] = FeatureSchema.load(self._models / folder_name(digest)).names
        return self._names[digest]


def check_slices(model: Model) -> None:
    """UserError where the judge is to guard a slice that prediction rows do not tell."""
    loss = model.spec.release.judge.loss
    if loss is None or not loss.slices:
        return
    where = "spec.release.judge.loss.slices"
    if not model.spec.training.retain:
        raise UserError(where, list(loss.slices), "none where training.retain is false: no features are logged")
    workload = load_workload(model.spec.workload)
    features = {feature.name for feature in workload.features}
    known = sorted(name for name, column in workload.slices.items() if column in features)
    for name in loss.slices:
        if name not in known:
            raise UserError(where, name, f"a slice of the workload that is a feature: {', '.join(known) or 'none'}")
