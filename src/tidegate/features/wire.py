"""How Feast writes keys and values into its online stores: entity keys (serialization version 3) and scalar values.

Serving reads both without Feast, whose import alone takes seconds. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

Key = str | int | bytes
Value = float | int | str | bytes | bool | None

NO_KEYS = ("__dummy_id",)
"""Join keys under which Feast keeps the one row of a view without keys; its value is ``""``."""

HEARTBEAT = "__tidegate__"
"""Key value of the row that says until when a view was fed; written in one transaction with the view's values."""

HEARTBEAT_NUMBER = -(2**63)
"""The same where a join key is a whole number."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BYTES, _STRING, _INT64 = 1, 2, 4
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NULL = 19


def heartbeat_times(known: datetime) -> tuple[datetime, datetime]:
    """(event time, created) of a heartbeat row that says `known`.

    Feast's SQLite store keeps whole seconds, so the microseconds travel as seconds of the second column.
    """
    return known, _EPOCH + timedelta(seconds=known.microsecond)


def known_of(event_seconds: int, created_seconds: int) -> float:
    """What a heartbeat row says, in seconds since the epoch, exact to the microsecond."""
    return (event_seconds * 1_000_000 + created_seconds) / 1e6


def heartbeat_keys(names: Sequence[str]) -> list[bytes]:
    """The keys under which a view's heartbeat may stand: a reader does not know which join keys are numbers."""
    either: tuple[Key, ...] = (HEARTBEAT, HEARTBEAT_NUMBER)
    return [entity_key(names, values) for values in product(either, repeat=len(names))]


def entity_key(names: Sequence[str], values: Sequence[Key]) -> bytes:
    """One entity's key as bytes: names sorted, an integer as Int64, each value in the order of its name."""
    pairs = sorted(zip(names, values, strict=True))
    parts = [struct.pack("<I", len(pairs))]
    for name, _ in pairs:
        text = name.encode()
        parts += [struct.pack("<II", _STRING, len(text)), text]
    for _, value in pairs:
        kind, data = _key_bytes(value)
        parts += [struct.pack("<II", kind, len(data)), data]
    return b"".join(parts)


def _key_bytes(value: Key) -> tuple[int, bytes]:
    if isinstance(value, str):
        return _STRING, value.encode()
    if isinstance(value, bytes):
        return _BYTES, value
    return _INT64, struct.pack("<q", value)


def value_of(blob: bytes) -> Value:
    """One scalar of a serialized ``feast.types.Value``; a time is its seconds, what holds nothing is None.

    Raises ValueError when the bytes are damaged or hold no scalar.
    """
    if len(blob) == 5 and blob[0] == 0x35:  # a float, by far the most frequent
        return struct.unpack_from("<f", blob, 1)[0]  # type: ignore[no-any-return]
    found: Value = None
    position = 0
    while position < len(blob):
        tag, position = _varint(blob, position)
        raw, position = _field(blob, tag & 7, position)
        found = _scalar(tag >> 3, tag & 7, raw)
    return found


def _scalar(number: int, wire: int, raw: int | bytes) -> Value:
    """The value of one field; the oneof's last field counts, as in protobuf."""
    expected, read = _SCALARS.get(number, (None, None))
    if wire != expected or read is None:
        raise ValueError(f"field {number} with wire type {wire} is no scalar value")
    return read(raw)


def _field(blob: bytes, wire: int, position: int) -> tuple[int | bytes, int]:
    """One field's content and the position behind it."""
    if wire == _VARINT:
        return _varint(blob, position)
    if wire == _LENGTH:
        length, position = _varint(blob, position)
    elif wire in (_FIXED32, _FIXED64):
        length = 4 if wire == _FIXED32 else 8
    else:
        raise ValueError(f"wire type {wire}")
    if position + length > len(blob):
        raise ValueError("cut off")
    return blob[position : position + length], position + length


def _varint(blob: bytes, position: int) -> tuple[int, int]:
    found = shift = 0
    while position < len(blob) and shift < 64:
        byte = blob[position]
        found |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return found, position
    raise ValueError("cut off")


def _signed(bits: int) -> Callable[[int], int]:
    """Two's complement: protobuf writes a negative number as 64 bits, an int32 too."""

    def read(raw: int) -> int:
        low = raw & ((1 << bits) - 1)
        return low - (1 << bits) if low >> (bits - 1) else low

    return read


_SCALARS: dict[int, tuple[int, Callable[..., Value]]] = {
    1: (_LENGTH, bytes),
    2: (_LENGTH, bytes.decode),
    3: (_VARINT, _signed(32)),
    4: (_VARINT, _signed(64)),
    5: (_FIXED64, lambda raw: struct.unpack("<d", raw)[0]),
    6: (_FIXED32, lambda raw: struct.unpack("<f", raw)[0]),
    7: (_VARINT, bool),
    8: (_VARINT, _signed(64)),
    _NULL: (_VARINT, lambda raw: None),
}
