"""Splits by time, with a gap of the label deadline between train, validation and gate window.

```
 ... train ...]--gap--[ validation ]--gap--[ gate window ]--label deadline--| until
```
A row belongs to a part by its prediction time. The gap makes sure that the label of every row before it that came in
time was known before the first prediction after it; a row whose label came later is left out of the part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError

Times = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """Prediction times in (after, until], seconds since the epoch."""

    after: float
    until: float

    def mask(self, times: Times) -> Mask:
        """Which rows are in the window."""
        return np.asarray((times > self.after) & (times <= self.until))

    def known(self, times: Times, label_times: Times, before: float) -> Mask:
        """Which rows of the window had their label at `before`, the end of the gap; a label without a time had."""
        return self.mask(times) & ~(label_times > before)


@dataclass(frozen=True)
class Splits:
    """The parts of one run. `train` reaches up to one gap before the gate window and holds `fit` and `validation`."""

    train: Window
    gate: Window
    fit: Window
    """Where settings are tried: train without validation and its gap."""
    validation: Window
    """Where settings are compared: the newest matured window before the gate's."""


def split(until: float, label_deadline: float, gate_window: float, since: float = -np.inf) -> Splits:
    """The parts at time `until`, all in seconds; rows up to and with `since` are in no training part."""
    gate = Window(until - label_deadline - gate_window, until - label_deadline)
    train = Window(since, gate.after - label_deadline)
    validation = Window(train.until - gate_window, train.until)
    fit = Window(since, validation.after - label_deadline)
    return Splits(train, gate, fit, validation)


def check_no_leak(frame: Any, key: str, first_prediction: float) -> None:
    """Fail when a training row could not be known before `first_prediction`.

    `frame` is a polars DataFrame of the training rows, times in float seconds, `key` the column that names a row: the
    prediction and the label must be older than `first_prediction`, and any other column named ``<feature>_timestamp``
    (when that feature's value was known) not younger than the row's own prediction. Raises UserError that names the
    column and the first such row.
    """
    for column in (name for name in frame.columns if name.endswith("_timestamp")):
        limit = first_prediction if column in ("event_timestamp", "label_timestamp") else frame["event_timestamp"]
        late = frame.filter((frame[column] > limit).fill_null(False))
        if late.height:
            first = late.row(0, named=True)
            allowed = limit if isinstance(limit, float) else first["event_timestamp"]
            raise UserError(
                f"training row {first[key]}: {column}",
                first[column],
                f"a time up to {allowed}; {late.height} rows leak",
            )
