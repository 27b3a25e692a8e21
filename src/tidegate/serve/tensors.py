"""Open Inference Protocol V2: a request's tensors as model rows, scores as a tensor. JSON, and the binary extension.

Two forms are taken. A tensor a feature, of shape [N] or [N, 1] under the feature's name, absent features null:
numbers as FP32, FP64 or any integer type, text as BYTES. Or one tensor ``features`` of shape [N, F], numbers in the
schema's order as the model itself takes them, a category as its code; as FP32 they are logged as float32.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import simdjson
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from tidegate.errors import UserError
from tidegate.serve.decoder import MOST_ROWS, Number, refusal
from tidegate.serve.rows import RowMaker, Rows, Value
from tidegate.train.model_file import Feature, FeatureSchema

WHOLE, SCORE = "features", "score"
"""Name of the one-tensor form's tensor, and of the output."""

NUMBERS: dict[str, str] = {
    "FP32": "<f4", "FP64": "<f8", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
"""Data types of numbers and how numpy calls their bytes."""

Numbers = NDArray[np.float64]
Values = list[Any] | Numbers
"""A tensor's values flat: a list where one may be text or null."""

_SHORT = 2048
"""Bytes of JSON below which an object for each number costs less than an array for all."""

_STAND_IN = msgspec.Raw(b"[%d]" % int.from_bytes(os.urandom(7)))
"""In place of an array that was taken out of a body; nobody outside knows it."""

_ALONE = [(False, _STAND_IN)]
"""Inputs of a body of which the only tensor's array was taken out: whether of text, and the data."""

_FLOAT32 = float(np.finfo(np.float32).max)

Datatype = Literal["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BYTES"]
_Side = Annotated[int, Meta(ge=0, le=2**31)]


class Input(msgspec.Struct):
    """One tensor: its values flat or nested as `shape` says, or, with ``binary_data_size``, behind the JSON."""

    name: str
    shape: Annotated[list[_Side], Meta(min_length=1, max_length=2)]
    datatype: Datatype
    data: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "array"})] | UnsetType = UNSET
    parameters: dict[str, Any] | None = None


class Output(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class Request(msgspec.Struct):
    """The JSON of an inference request; fields of extensions that are not known are passed over."""

    inputs: Annotated[list[Input], Meta(min_length=1)]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Output] | None = None

    @property
    def binary(self) -> bool:
        """Whether the output is wanted as bytes."""
        for one in self.outputs or ():
            if one.parameters and "binary_data" in one.parameters:
                return one.parameters["binary_data"] is True
        return bool(self.parameters) and self.parameters.get("binary_data_output") is True  # type: ignore[union-attr]


_DATA = re.compile(rb'"data"\s*:\s*\[')
_NESTING = re.compile(rb"\[\s*\[")
_REQUEST = msgspec.json.Decoder(Request)
_PARSER = simdjson.Parser()
"""Of one thread: the event loop's."""

_FLAT, _NESTED = (msgspec.json.Decoder(kind) for kind in (list[Number | None], list[list[Number | None]]))
_TEXT, _TEXTS = (msgspec.json.Decoder(kind) for kind in (list[str | None], list[list[str | None]]))


def decode(body: bytes, json_bytes: int | None = None) -> tuple[Request, memoryview, Numbers | None]:
    """The request, the binary data behind its first `json_bytes` bytes, and the only tensor's data if already parsed.

    UserError names the field.
    """
    if json_bytes is not None and json_bytes > len(body):
        raise UserError("inference-header-content-length", json_bytes, f"at most the body's {len(body)} bytes")
    cut = len(body) if json_bytes is None else json_bytes
    rest, numbers = _without_numbers(body[:cut])
    try:
        found = _REQUEST.decode(rest)
        if numbers is not None and [(one.datatype == "BYTES", one.data) for one in found.inputs] != _ALONE:
            found, numbers = _REQUEST.decode(body[:cut]), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refusal(str(error)) from None
    for number, one in enumerate(found.outputs or ()):
        if one.name != SCORE:
            raise UserError(f"outputs[{number}].name", one.name[:80], SCORE)
    return found, memoryview(body)[cut:], numbers


def _without_numbers(text: bytes) -> tuple[bytes, Numbers | None]:
    """A body whose only ``"data"`` is taken out, so that it is gone through once, and its numbers: if long and flat."""
    if len(text) > _SHORT and (found := _DATA.search(text)):
        start, end = found.end() - 1, text.find(b"]", found.end()) + 1
        if end - start > _SHORT and text.find(b'"data"', end) < 0:
            numbers = _flat_numbers(text[start:end])
            return (text, None) if numbers is None else (text[:start] + bytes(_STAND_IN) + text[end:], numbers)
    return text, None


class TensorRows:
    """Makes model rows of tensors, for one feature schema."""

    def __init__(self, schema: FeatureSchema, most_rows: int = MOST_ROWS) -> None:
        self._maker = RowMaker(schema)
        self._features = {one.name: (column, one) for column, one in enumerate(schema.features)}
        self._all, self._most = schema.features, most_rows

    def rows(self, request: Request, binary: memoryview, numbers: Numbers | None = None) -> Rows:
        """The rows of what `decode` gives; UserError names the tensor, what it got and what it takes."""
        columns: list[Sequence[Value] | None] = [None] * len(self._all)
        count = self._count(request.inputs[0], "inputs[0]")
        for number, one in enumerate(request.inputs):
            where = f"inputs[{number}]"
            if number and self._count(one, where) != count:
                raise UserError(f"{where}.shape", one.shape, f"{count} rows, as inputs[0] has")
            values, binary = _values(one, where, binary, numbers)
            if one.name == WHOLE and WHOLE not in self._features:
                return self._whole(request, one, values)
            column, feature = self._feature(one, where)
            if columns[column] is not None:
                raise UserError(f"{where}.name", one.name[:80], "each feature once")
            columns[column] = _column(feature, one, where, values)
        return self._maker.of_lists(zip(*(column or [None] * count for column in columns), strict=True))

    def _count(self, one: Input, where: str) -> int:
        """Rows of a tensor."""
        whole, wide = one.name == WHOLE and WHOLE not in self._features, len(self._all)
        if one.shape[1:] not in ([[wide]] if whole else [[], [1]]):
            raise UserError(f"{where}.shape", one.shape, f"[N, {wide}]" if whole else "[N] or [N, 1]")
        if not 1 <= one.shape[0] <= self._most:
            raise UserError(f"{where}.shape", one.shape, f"1 to {self._most} rows")
        return one.shape[0]

    def _feature(self, one: Input, where: str) -> tuple[int, Feature]:
        found = self._features.get(one.name)
        if found is None:
            raise UserError(f"{where}.name", one.name[:80], f"{WHOLE} or one of {', '.join(self._features)}")
        return found

    def _whole(self, request: Request, one: Input, values: Values) -> Rows:
        """The one-tensor form: categories as their codes."""
        if len(request.inputs) > 1 or one.datatype == "BYTES":
            got = one.datatype if one.datatype == "BYTES" else f"{len(request.inputs)} tensors"
            raise UserError("inputs", got, f"{WHOLE} alone, of numbers")
        return self._maker.of_codes(values, "inputs[0].data", one.datatype == "FP32")


def score_tensor(scores: Sequence[float], binary: bool) -> tuple[dict[str, Any], bytes]:
    """The output tensor of N scores, and the bytes to put behind the JSON."""
    tensor: dict[str, Any] = {"name": SCORE, "shape": [len(scores)], "datatype": "FP32"}
    if not binary:
        return {**tensor, "data": scores}, b""
    data = np.asarray(scores, "<f4").tobytes()
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data


def _column(feature: Feature, one: Input, where: str, values: Values) -> Sequence[Value]:
    """One feature's values, of the kind that its datatype says; UserError when the feature is of the other kind."""
    if (feature.categories is None) == (one.datatype == "BYTES"):
        takes = "BYTES" if feature.categories is not None else ", ".join(NUMBERS)
        raise UserError(f"{where}.datatype", one.datatype, f"{takes} for {feature.name}")
    return values if isinstance(values, list) else values.tolist()


def _values(one: Input, where: str, binary: memoryview, numbers: Numbers | None) -> tuple[Values, memoryview]:
    """A tensor's values flat, null where one is missing, and what is left of the binary data."""
    size, whole = (one.parameters or {}).get("binary_data_size"), math.prod(one.shape)
    if size is None:
        return _from_json(one, where, whole, numbers), binary
    if type(size) is not int or not 0 <= size <= len(binary):
        raise UserError(f"{where}.parameters.binary_data_size", size, f"0 to {len(binary)}, what is left of the body")
    data, rest = binary[:size], binary[size:]
    values: Values = list(_texts(data, where)) if one.datatype == "BYTES" else _numbers(data, one.datatype, where)
    if len(values) != whole:
        raise UserError(f"{where}: binary data", f"{len(values)} values", f"{whole}, as its shape says")
    return values, rest


def _from_json(one: Input, where: str, whole: int, numbers: Numbers | None) -> Values:
    if one.data is UNSET:
        raise UserError(f"{where}.data", None, "a value; it is required")
    found = _parsed(one, bytes(one.data), where) if numbers is None else numbers
    if len(found) != whole:
        raise UserError(f"{where}.data", f"{len(found)} values", f"{whole}, as its shape says")
    return found


def _flat_numbers(text: bytes) -> Numbers | None:
    """The numbers of a JSON list without an object for each; None where it holds anything else than float32 numbers."""
    if text.find(b"[", text.find(b"[") + 1) >= 0:
        return None
    try:
        numbers: Any = _PARSER.parse(text)
        found = np.frombuffer(numbers.as_buffer(of_type="d"))
        # the ufuncs themselves: `max` and `min` of an array go through Python
        fits = np.maximum.reduce(found) <= _FLOAT32 and np.minimum.reduce(found) >= -_FLOAT32
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return found if fits else None


def _parsed(one: Input, text: bytes, where: str) -> Values:
    """Values flat, whatever they are; UserError names the one that is none."""
    if one.datatype != "BYTES" and len(text) >= _SHORT and (numbers := _flat_numbers(text)) is not None:
        return numbers
    nested = _NESTING.match(text) is not None
    decoder: Any = (_TEXTS if nested else _TEXT) if one.datatype == "BYTES" else (_NESTED if nested else _FLAT)
    try:
        found = decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refusal(str(error), root=f"{where}.data") from None
    if not nested:
        return found  # type: ignore[no-any-return]
    if any(len(row) != math.prod(one.shape[1:]) for row in found):
        raise UserError(f"{where}.data", "rows of another length", f"{math.prod(one.shape[1:])} values each")
    return [value for row in found for value in row]


def _numbers(data: memoryview, datatype: str, where: str) -> Values:
    kind = np.dtype(NUMBERS[datatype])
    if len(data) % kind.itemsize:
        raise UserError(f"{where}: binary data", f"{len(data)} bytes", f"a multiple of {kind.itemsize} for {datatype}")
    found = np.frombuffer(data, kind).astype(np.float64)
    missing = np.isnan(found)
    if not (np.abs(found[~missing]) <= _FLOAT32).all():
        raise UserError(f"{where}: binary data", "a number that is not finite", "finite float32 numbers, or NaN")
    return [None if math.isnan(value) else value for value in found.tolist()] if missing.any() else found


def _texts(data: memoryview, where: str) -> Iterator[str]:
    """Elements of BYTES: each behind its length, four bytes, little-endian."""
    start = 0
    while start < len(data):
        if start + 4 > len(data) or start + 4 + (size := struct.unpack_from("<I", data, start)[0]) > len(data):
            raise UserError(f"{where}: binary data", "an element that is cut off", "each element behind its length")
        try:
            yield str(data[start + 4 : start + 4 + size], "utf-8")
        except UnicodeDecodeError:
            raise UserError(f"{where}: binary data", "bytes that are not UTF-8", "UTF-8 text") from None
        start += 4 + size
