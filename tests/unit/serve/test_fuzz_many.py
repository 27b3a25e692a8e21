"""A hundred thousand damaged bodies through the whole path: no 500, no hang, every refusal names the field."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asked import nothing_else
from tiny_models import write_model

from tidegate.serve.loaded import load_model
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity
from tidegate.train.model_file import folder_name

INPUTS = 100_000
INFER = "/v2/models/m/infer"
FIELD = re.compile(
    r"(body|at|rows|id|parameters|inputs|outputs|inference-header-content-length)([.:\[].{0,200})?: got "
)
TOKEN = re.compile(rb'null|-?[0-9][0-9.]*|"[^"]*"')
TOKENS = [b"null", b"0", b"-1.5", b"1e38", b"1e39", b"2", b"1000", b'""', b'"UA"', b'"distance"', b"true", b"[]", b"{}"]
VALID: dict[str, list[bytes]] = {
    "/predict": [
        b'{"rows":[{"distance":1.5,"carrier":"UA","dep hour":7},{"distance":null}],"at":1370000000.5}',
        b'{"rows":[{}],"at":"2013-07-01T02:00:00+02:00"}',
    ],
    INFER: [
        b'{"id":"q","inputs":[{"name":"distance","shape":[2],"datatype":"FP32","data":[0.5,null]},'
        b'{"name":"carrier","shape":[2,1],"datatype":"BYTES","data":[["UA"],["zz"]]}],"outputs":[{"name":"score"}]}',
        b'{"inputs":[{"name":"features","shape":[2,3],"datatype":"FP64","data":[[0.5,2,7],[null,0,3]]}]}',
        b'{"inputs":[{"name":"distance","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}\0\0\0\0',
    ],
}
PIECES = [
    b"NaN", b"Infinity", b"-", b"1e999", b"-1e39", b"9" * 400, b"0.1e-400", b"18446744073709551616", b"true", b"null",
    b'"', b"\\", b'"\\ud800"', b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\0", b"[" * 300, b'{"a":' * 300, b"]", b"}",
    b"[]", b"{}", b",", b":", b'"rows"', b'"at"', b'"inputs"', b'"shape":[1000000,1000000]', b'"shape":[-1]',
    b'"datatype":"BYTES"', b'"binary_data_size":1e9', b'"0001-01-01T00:00:00Z"', b"\xf0\x9f\x90\x9f", b'"x":1,',
]  # fmt: skip


def damaged(valid: list[bytes], chance: random.Random) -> bytes:
    """A valid body with a token changed, or with one to four changes to its bytes: bits, cuts, repeats, pieces."""
    data = bytearray(chance.choice(valid))
    if chance.random() < 0.3:
        found = chance.choice(list(TOKEN.finditer(data)))
        data[found.start() : found.end()] = chance.choice(TOKENS)
        return bytes(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        change = chance.randrange(5)
        if change == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif change == 1:
            del data[place : place + chance.randint(1, 20)]
        elif change == 2:
            data[place:place] = data[place : place + chance.randint(1, 30)]
        else:
            data[place : place + (change == 3) * chance.randint(1, 8)] = chance.choice(PIECES)
    return bytes(data)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RequestPath]:
    store: Path = tmp_path_factory.mktemp("plain")
    model = load_model(store / folder_name(write_model(store)))
    log = PredictionLog(tmp_path_factory.mktemp("rows"), "v1-a", "v1", model.digest)
    yield RequestPath(Identity("m", "v1"), model, log, nothing_else)
    log.close()


async def ask(app: RequestPath, path: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("path", VALID)
def test_damaged_bodies_are_answered(app: RequestPath, path: str) -> None:
    statuses = asyncio.run(damage(app, path))
    # the damage must be neither so small nor so great that only one side of the decoder is seen
    assert statuses[200] > 0.02 * statuses.total()
    assert statuses[400] > 0.5 * statuses.total()


async def damage(app: RequestPath, path: str) -> Counter[int]:
    chance, statuses = random.Random(path), Counter[int]()
    for _ in range(INPUTS // len(VALID)):
        body = damaged(VALID[path], chance)
        length = chance.choice([0, 1, len(body) - 4, len(body), len(body) + 1])
        headers = (
            [(b"inference-header-content-length", b"%d" % length)] if path == INFER and chance.random() < 0.3 else []
        )
        status, answer = await ask(app, path, body, headers)
        statuses[status] += 1
        if status != 200:
            error = msgspec.json.decode(answer)["error"]
            assert status in (400, 413), (body, error)
            assert FIELD.match(error), (body, error)
            assert ", takes " in error, (body, error)
            assert len(error) < 600, (body, error)
    return statuses


def test_every_valid_body_is_valid(app: RequestPath) -> None:
    for path, bodies in VALID.items():
        for body in bodies:
            cut = len(body) - 4 * body.endswith(b"\0")
            length = [(b"inference-header-content-length", b"%d" % cut)]
            status, answer = asyncio.run(ask(app, path, body, length))
            assert status == 200, answer
            assert json.loads(answer)
