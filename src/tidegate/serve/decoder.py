"""From a request's bytes to rows, by a decoder compiled from the feature schema.

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
from msgspec import UNSET, Meta, UnsetType

from tidegate.errors import UserError
from tidegate.serve.by_key import Fields
from tidegate.serve.rows import RowMaker, Rows
from tidegate.train.model_file import FeatureSchema

MOST_ROWS = 1000
"""Rows that one request may hold."""

_FLOAT32 = float(np.finfo(np.float32).max)
_TIMES = "seconds since the epoch (0 to 10^11) or an ISO 8601 time with its zone"
_EPOCH, _LAST = datetime(1970, 1, 1, tzinfo=UTC), 1e11
Number = Annotated[float, Meta(ge=-_FLOAT32, le=_FLOAT32)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What the online store's keys hold of a whole number."""
Seconds = Annotated[float, Meta(ge=0, le=_LAST)]
Moment = Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": r"^(19[89]\d|[2-4]\d{3})-"})]
"""The pattern tells clients of the years that are always taken; `_EPOCH` and `_LAST` are the limits."""


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded request: its rows and the time it says it is from (seconds)."""

    rows: Rows
    at: float | None
    keys: list[dict[str, Any]] | None = None
    """What was asked by key, one an entry; then `rows` is empty."""


class Decoder:
    """Compiled for one feature schema; refuses more than `most_rows` rows. `fields`: what it takes to ask by key."""

    def __init__(self, schema: FeatureSchema, most_rows: int = MOST_ROWS, fields: Fields | None = None) -> None:
        self._names, self._asked = schema.names, (*fields.keys, *fields.inputs) if fields else ()
        self.rows = RowMaker(schema)
        self.type = _request_type(schema, most_rows, fields)
        self.one_of = ("rows", "keys") if fields else ()
        """Fields of which a request has exactly one."""
        self._decoder = msgspec.json.Decoder(self.type)

    def decode(self, body: bytes) -> Request:
        """Raises UserError that names the field, what it got and what it takes. An absent feature is null."""
        try:
            found: Any = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise refusal(str(error), self._names, self._asked) from None
        if self._asked and (found.rows is UNSET) == (found.keys is UNSET):
            got = "neither" if found.rows is UNSET else "both"
            raise UserError("body", got, "rows (features) or keys (entities), one of the two")
        if found.rows is UNSET:
            entries = (msgspec.structs.astuple(entry) for entry in found.keys)
            keys = [dict(zip(self._asked, entry, strict=True)) for entry in entries]
            return Request(self.rows.of_values([]), seconds(found.at), keys)
        return Request(self.rows.of_lists(map(msgspec.structs.astuple, found.rows)), seconds(found.at))


def seconds(at: float | datetime | None) -> float | None:
    """A moment in a body as seconds since the epoch; UserError when it is not from 0 to 10^11."""
    if not isinstance(at, datetime):
        return at
    found = (at - _EPOCH).total_seconds()
    if not 0 <= found <= _LAST:
        raise UserError("at", at.isoformat(), _TIMES)
    return found


def refusal(message: str, names: Sequence[str] = (), asked: Sequence[str] = (), root: str = "body") -> UserError:
    """One line of ours for a message of msgspec's; `root`: the field that was decoded."""
    text, _, path = message.partition(" - at `")
    inside = path.rstrip("`").removeprefix("$")
    where = (inside.removeprefix(".") if root == "body" else f"{root}{inside}") or root
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL):
        known = {"rows": names, "keys": asked}.get(where.partition("[")[0])
        takes = f"one of {', '.join(known)}" if known else "the fields of the contract"
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


def _request_type(schema: FeatureSchema, most_rows: int, asked: Fields | None) -> type[msgspec.Struct]:
    kinds = {feature.name: (Number if feature.kind == "numeric" else str) | None for feature in schema.features}
    some = Meta(min_length=1, max_length=most_rows)
    rows: Any = Annotated[list[_struct("Row", [(name, kind, None) for name, kind in kinds.items()])], some]  # type: ignore[misc]
    at = ("at", Seconds | Moment | None, None)
    if asked is None:
        return msgspec.defstruct("PredictRequest", [("rows", rows), at], forbid_unknown_fields=True)
    required = [(key, kinds.get(key, str | Whole | None)) for key in asked.keys]
    entry = _struct("Entity", [*required, *((name, kinds[name], None) for name in asked.inputs)])
    keys: Any = Annotated[list[entry], some]  # type: ignore[valid-type]
    fields = [("rows", rows | UnsetType, UNSET), ("keys", keys | UnsetType, UNSET), at]
    return msgspec.defstruct("PredictRequest", fields, forbid_unknown_fields=True)


def _struct(name: str, fields: Sequence[tuple[Any, ...]]) -> type[msgspec.Struct]:
    """A struct whose fields may have any names."""
    numbered = [(f"f{index}", *rest) for index, (_, *rest) in enumerate(fields)]
    names = {f"f{index}": field for index, (field, *_) in enumerate(fields)}
    return msgspec.defstruct(name, numbered, rename=names, forbid_unknown_fields=True, gc=False)
