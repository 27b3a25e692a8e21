"""The nodes of an ONNX file without the onnx package, which no server and no edge has: protobuf's wire format, read.

The numbers of fields are those of onnx.proto; they stay, or no old file could be read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_VARINT, _BYTES, _FOUR = 0, 2, 5
_SIZES = {1: 8, _FOUR: 4}
_GRAPH, _NODE = 7, 1
_INPUT, _OUTPUT, _KIND, _ATTRIBUTE = 1, 2, 4, 5
_NAME, _ONE, _FLOATS, _INTS, _STRINGS = 1, (2, 3, 4), 7, 8, 9


@dataclass
class Node:
    """One operator of the graph."""

    kind: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    """A number, bytes or a list of them by name; None for one of another kind (a tensor, a graph)."""


def read_nodes(model: bytes) -> list[Node]:
    """The nodes of a model's graph in order; ValueError when it is no protobuf."""
    try:
        graphs = [graph for number, graph in _fields(model) if number == _GRAPH]
        return [_node(node) for graph in graphs for number, node in _fields(graph) if number == _NODE]
    except (IndexError, TypeError, AttributeError, struct.error):
        raise ValueError("no ONNX: a field is cut off or of another kind") from None


def _node(data: bytes) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == _INPUT:
            node.inputs.append(value.decode())
        elif number == _OUTPUT:
            node.outputs.append(value.decode())
        elif number == _KIND:
            node.kind = value.decode()
        elif number == _ATTRIBUTE:
            name, told = _attribute(value)
            node.attributes[name] = told
    return node


def _attribute(data: bytes) -> tuple[str, Any]:
    """Name and value; the numbers of a list stand packed in one field or in a field each."""
    name, one, several = "", None, list[Any]()
    for number, value in _fields(data):
        if number == _NAME:
            name = value.decode()
        elif number in _ONE:
            one = value
        elif number == _FLOATS and isinstance(value, bytes):
            several += struct.unpack(f"<{len(value) // 4}f", value)
        elif number == _INTS and isinstance(value, bytes):
            several += _varints(value)
        elif number in (_FLOATS, _INTS, _STRINGS):
            several.append(value)
    return name, several or one


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: an int, a float, or bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            yield key >> 3, number - (1 << 64) if number >> 63 else number
            continue
        size, at = _varint(data, at) if kind == _BYTES else (_SIZES.get(kind, end), at)
        if at + size > end:
            raise ValueError("no ONNX: a field is cut off")
        value = data[at : at + size]
        yield key >> 3, struct.unpack("<f", value)[0] if kind == _FOUR else value
        at += size


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value - (1 << 64) if value >> 63 else value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the least first, and the place behind it."""
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
