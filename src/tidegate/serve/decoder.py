"""From a request's bytes to the model's input, by a decoder compiled from the feature schema.

No data frame, no pydantic, no generic JSON: msgspec checks names, types and ranges while it parses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.train.model_file import FeatureSchema

MOST_ROWS = 1000
"""Rows that one request may hold."""

_FLOAT32 = float(np.finfo(np.float32).max)
_TIMES = "seconds since the epoch (0 to 10^11) or an ISO 8601 time with its zone"
_EPOCH, _LAST = datetime(1970, 1, 1, tzinfo=UTC), 1e11
Value = float | str | None
Number = Annotated[float, Meta(ge=-_FLOAT32, le=_FLOAT32)]
Seconds = Annotated[float, Meta(ge=0, le=_LAST)]
Moment = Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded request: raw values in the schema's order, and the time it says it is from (seconds)."""

    rows: list[list[Value]]
    at: float | None


class Decoder:
    """Compiled for one feature schema; refuses more than `most_rows` rows."""

    def __init__(self, schema: FeatureSchema, most_rows: int = MOST_ROWS) -> None:
        self._names = schema.names
        self._categories = [(column, codes) for column, codes in enumerate(schema.codes()) if codes is not None]
        self.type = _request_type(schema, most_rows)
        self._decoder = msgspec.json.Decoder(self.type)

    def decode(self, body: bytes) -> Request:
        """Raises UserError that names the field, what it got and what it takes. An absent feature is null."""
        try:
            found: Any = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error), self._names) from None
        return Request([list(msgspec.structs.astuple(row)) for row in found.rows], seconds(found.at))

    def encode(self, rows: Sequence[Sequence[Value]]) -> NDArray[np.float32]:
        """Raw values [N][F] -> float32 [N, F]: null is NaN, a category its code, unknown or null is 0."""
        encoded: list[list[Any]] = [list(row) for row in rows]
        for column, codes in self._categories:
            for row in encoded:
                row[column] = codes.get(row[column], 0)
        return np.array(encoded, dtype=np.float32)


def seconds(at: float | datetime | None) -> float | None:
    """A moment in a body as seconds since the epoch; UserError when it is not from 0 to 10^11."""
    if not isinstance(at, datetime):
        return at
    found = (at - _EPOCH).total_seconds()
    if not 0 <= found <= _LAST:
        raise UserError("at", at.isoformat(), _TIMES)
    return found


def refusal(message: str, names: Sequence[str] = ()) -> UserError:
    """One line of ours for a message of msgspec's."""
    text, _, path = message.partition(" - at `")
    where = path.rstrip("`").removeprefix("$").removeprefix(".") or "body"
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        takes = f"one of {', '.join(names)}" if where.startswith("rows[") else "the fields of the contract"
        return UserError(f"{where}: field", found[1][:80], takes)
    if found := re.fullmatch(r"Object missing required field `(.*)`", text):
        return UserError(found[1] if where == "body" else f"{where}.{found[1]}", None, "a value; it is required")
    if found := re.fullmatch(r"Expected `(.*)`, got `(.*)`", text):
        return UserError(where, found[2], _TIMES if where == "at" else found[1])
    if found := re.fullmatch(r"Expected (.*)", text):
        return UserError(where, "a value out of range", _TIMES if where == "at" else found[1].replace("`", ""))
    if text == "Number out of range":
        return UserError(where, "a number that is not finite", "a finite float32")
    return UserError(where, text[:160], _TIMES if where == "at" else "a JSON object")


def _request_type(schema: FeatureSchema, most_rows: int) -> type[msgspec.Struct]:
    fields = [
        (f"f{index}", (Number if feature.kind == "numeric" else str) | None, None)
        for index, feature in enumerate(schema.features)
    ]
    names = {f"f{index}": name for index, name in enumerate(schema.names)}
    row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, gc=False)
    rows = Annotated[list[row], Meta(min_length=1, max_length=most_rows)]  # type: ignore[valid-type]
    return msgspec.defstruct(
        "PredictRequest", [("rows", rows), ("at", Seconds | Moment | None, None)], forbid_unknown_fields=True
    )
