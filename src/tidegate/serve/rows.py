"""Model rows between a request's body and the model: flat, row by row, so that a column is one slice.

Numbers are packed as they came, doubles or the float32 of a tensor: the model's input and the log are made of them
without a look at each value again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.observations import as_served
from tidegate.train.model_file import FeatureSchema

Value = float | str | None

SINGLE, _DOUBLE = np.dtype("<f4"), np.dtype("<f8")
"""How numbers are packed; made once, since numpy reads such a name anew each time."""

_WHOLE, _LAST_BITS = 2.0**52, 2**52 - 1
"""A double of 2**52 and a whole number has that number as its last bits."""

_TEXT = 6
"""Bytes that a text may take in the log; a list of all that a category has is shorter from some number of rows on."""


@dataclass(slots=True)
class Rows:
    """N rows of F values in the schema's order, flat [N * F]."""

    width: int
    numbers: bytes
    """Little-endian: a category as its code, NaN for null."""
    texts: dict[int, list[str | None]]
    """For each column that holds a category its N texts; empty where `names` tells them."""
    single: bool = False
    """Whether `numbers` are float32, not doubles."""
    names: msgspec.Raw | UnsetType = UNSET
    """As of `tidegate.observations.Answered`."""

    def __len__(self) -> int:
        """N."""
        return len(self.numbers) // ((4 if self.single else 8) * self.width)

    def lists(self) -> list[list[Value]]:
        """The values as served, a list a row: a category as its text, null where it is missing."""
        return as_served(self.numbers, self.texts, len(self), self.single, self.names)


class _Codes(dict[Any, int]):
    """A category's codes; 0 for a text that it does not have, and for null."""

    def __missing__(self, text: Any) -> int:
        return 0


class _Texts:
    """The texts of all columns that hold a category in one table, a line a column: many codes are looked up at once."""

    def __init__(self, texts: Mapping[int, Mapping[float | None, str | None]]) -> None:
        self._columns = np.array(list(texts), np.intp)
        codes = {column: range(1, 1 + int(max(filter(None, of), default=0))) for column, of in texts.items()}
        told = {column: [texts[column].get(code) for code in own] for column, own in codes.items()}
        self._told = msgspec.Raw(msgspec.json.encode(told))
        self._many = len(bytes(self._told)) / (_TEXT * max(len(texts), 1))
        # a slot more than the largest code takes, so that no code is found in the next column's line
        width = 2 + int(max((code or 0 for of in texts.values() for code in of), default=0))
        self._names = np.full(len(texts) * width, None, object)
        self._known = np.full(len(texts) * width, np.nan)
        self._starts = _WHOLE + np.arange(len(texts))[:, None] * width
        for line, of in enumerate(texts.values()):
            for code, text in of.items():
                place = line * width + int(code or 0)
                self._names[place], self._known[place] = text, code or 0

    def of(self, numbers: NDArray[np.float64]) -> tuple[dict[int, list[str | None]], msgspec.Raw | UnsetType] | None:
        """`Rows.texts` and `Rows.names` for [N, F]; None when a number there is no category's code."""
        told = numbers.take(self._columns, axis=1).T.copy()
        # a cast would warn of what is no whole number; here it gets any place, where its code is not
        places = (told + self._starts).view(np.int64) & _LAST_BITS
        if np.count_nonzero(self._known.take(places, mode="clip") != told):
            return None
        if len(numbers) >= self._many:
            return {}, self._told
        return dict(zip(self._columns.tolist(), self._names.take(places).tolist(), strict=True)), UNSET


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
        self._table = _Texts(self._texts)

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

    def of_codes(self, numbers: list[float | None] | NDArray[np.float64], where: str, single: bool = False) -> Rows:
        """Of numbers [N * F] with categories as their codes, 0 or null for an unknown one; an array has no null.

        `single`: keep them as float32.

        `where`: the field's name, for the UserError when a number is no category's code.
        """
        many = None if isinstance(numbers, list) else self._table.of(numbers.reshape(-1, self.width))
        if many is not None:
            return Rows(self.width, self._packed(numbers, single), many[0], single, many[1])
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
        return Rows(self.width, self._packed(numbers, single), found, single)

    def _packed(self, numbers: list[float | None] | NDArray[np.float64], single: bool = False) -> bytes:
        kind = SINGLE if single else _DOUBLE
        if not isinstance(numbers, list):
            return numbers.astype(kind, copy=False).tobytes()
        try:
            return _packing(len(numbers), single).pack(*numbers)
        except struct.error:  # there are nulls
            for column, _ in self._codes:
                numbers[column :: self.width] = [code or 0 for code in numbers[column :: self.width]]
            return np.array(numbers, kind).tobytes()


@lru_cache(64)
def _packing(count: int, single: bool) -> struct.Struct:
    return struct.Struct(f"<{count}{'f' if single else 'd'}")


def matrix(rows: Sequence[Rows]) -> NDArray[np.float32]:
    """What the model takes of all of them together, float32 [N, F]."""
    parts = [np.frombuffer(one.numbers, SINGLE if one.single else _DOUBLE) for one in rows]
    return np.concatenate(parts, dtype=np.float32, casting="same_kind").reshape(-1, rows[0].width)
