"""Ed25519 signatures, checked in plain Python (RFC 8032, section 5.1): an edge has no cryptography library.

Only public things are handled here, so that it need not run in constant time. Checking takes about 5 ms.
"""

from __future__ import annotations

import hashlib

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int, int, int]
"""Extended coordinates X, Y, Z, T: x = X/Z, y = Y/Z, xy = T/Z."""


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made with the private key of `public` (32 bytes)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, scalar = _decode(public), int.from_bytes(signature[32:], "little")
    if key is None or scalar >= _ORDER:
        return False
    hashed = hashlib.sha512(signature[:32] + public + message).digest()
    factor = int.from_bytes(hashed, "little") % _ORDER
    x, y, z, t = key
    found = _add(_multiply(scalar, _BASE), _multiply(factor, (-x % _P, y, z, -t % _P)))
    return _encode(found) == signature[:32]


def _add(a: Point, b: Point) -> Point:
    minus, plus = (a[1] - a[0]) * (b[1] - b[0]) % _P, (a[1] + a[0]) * (b[1] + b[0]) % _P
    c, d = 2 * a[3] * b[3] * _D % _P, 2 * a[2] * b[2] % _P
    e, f, g, h = plus - minus, d - c, d + c, plus + minus
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _multiply(factor: int, point: Point) -> Point:
    total = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _encode(point: Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decode(text: bytes) -> Point | None:
    """The point of 32 bytes; None where they are no point's."""
    number = int.from_bytes(text, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _base() -> Point:
    found = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert found is not None  # noqa: S101 - the curve's own base point
    return found


_BASE = _base()
