"""Model rows between a request's body and the model: flat, row by row, so that a column is one slice.

Numbers are packed as the doubles that they came as: the model's input and the log are made of them without a look at
each value again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.observations import as_served
from tidegate.train.model_file import FeatureSchema

Value = float | str | None


@dataclass(slots=True)
class Rows:
    """N rows of F values in the schema's order, flat [N * F]."""

    width: int
    numbers: bytes
    """Doubles, little-endian: a category as its code, NaN for null."""
    texts: dict[int, list[str | None]]
    """For each column that holds a category its N texts."""

    def __len__(self) -> int:
        """N."""
        return len(self.numbers) // (8 * self.width)

    def lists(self) -> list[list[Value]]:
        """The values as served, a list a row: a category as its text, null where it is missing."""
        return as_served(self.numbers, self.texts, len(self))


class _Codes(dict[Any, int]):
    """A category's codes; 0 for a text that it does not have, and for null."""

    def __missing__(self, text: Any) -> int:
        return 0


class RowMaker:
    """Makes rows for one feature schema."""

    def __init__(self, schema: FeatureSchema) -> None:
        self.width = len(schema.names)
        self._codes = [(column, _Codes(codes)) for column, codes in enumerate(schema.codes()) if codes is not None]
        self._names = schema.names
        self._texts: dict[int, dict[float | None, str | None]] = {
            column: {None: None, 0: None, **{code: text for text, code in codes.items()}}
            for column, codes in self._codes
        }

    def of_values(self, values: list[Value]) -> Rows:
        """Of raw values [N * F], which it takes over; a category that is unknown or null has code 0."""
        numbers: list[Any] = values
        texts: dict[int, list[Any]] = {column: values[column :: self.width] for column, _ in self._codes}
        for column, codes in self._codes:
            numbers[column :: self.width] = list(map(codes.__getitem__, texts[column]))
        return Rows(self.width, self._packed(numbers), texts)

    def of_lists(self, rows: Iterable[Sequence[Value]]) -> Rows:
        """Of raw values, a sequence a row."""
        return self.of_values(list(chain.from_iterable(rows)))

    def of_codes(self, numbers: list[float | None] | NDArray[np.float64], where: str) -> Rows:
        """Of numbers [N * F] with categories as their codes, 0 or null for an unknown one; an array has no null.

        `where`: the field's name, for the UserError when a number is no category's code.
        """
        found: dict[int, list[Any]] = {}
        for column, texts in self._texts.items():
            told = numbers[column :: self.width]
            codes: list[Any] = told if isinstance(told, list) else told.tolist()
            try:
                found[column] = list(map(texts.__getitem__, codes))
            except KeyError as error:
                row, largest = codes.index(error.args[0]), max(filter(None, texts), default=0)
                takes = f"a category's code, 0 to {largest}"
                raise UserError(f"{where}[{row}].{self._names[column]}", error.args[0], takes) from None
        return Rows(self.width, self._packed(numbers), found)

    def _packed(self, numbers: list[float | None] | NDArray[np.float64]) -> bytes:
        if not isinstance(numbers, list):
            return numbers.astype("<f8", copy=False).tobytes()
        try:
            return _doubles(len(numbers)).pack(*numbers)
        except struct.error:  # there are nulls
            for column, _ in self._codes:
                numbers[column :: self.width] = [code or 0 for code in numbers[column :: self.width]]
            return np.array(numbers, "<f8").tobytes()


@lru_cache(64)
def _doubles(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}d")


def matrix(rows: Sequence[Rows]) -> NDArray[np.float32]:
    """What the model takes of all of them together, float32 [N, F]."""
    numbers = rows[0].numbers if len(rows) == 1 else b"".join([one.numbers for one in rows])
    return np.frombuffer(numbers, "<f8").astype(np.float32).reshape(-1, rows[0].width)
