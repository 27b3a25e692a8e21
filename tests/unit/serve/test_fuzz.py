"""Whatever bytes come, /predict answers 200, 400 or 413, and a refusal names what is wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import write_model

from tidegate.serve.loaded import load_model
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity
from tidegate.train.model_file import folder_name

VALID = b'{"rows":[{"distance":1.5,"carrier":"UA","dep hour":7},{"distance":null}],"at":1370000000.5}'

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["distance", "carrier", "dep hour", "rows", "at", "x"])
VALUES = st.sampled_from([1e38, -0.0, 3.5e38, "", "UA", None, True, 10**400]) | JSON
TIMES = st.sampled_from([0, -1, 1e12, "2013-01-01T00:00:00Z", "0001-01-01T00:00:00Z"]) | JSON
NEAR = st.fixed_dictionaries(
    {"rows": st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=4) | JSON},
    optional={"at": TIMES, "x": JSON},
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(VALID)
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, len(data) - 1))
        change = draw(st.sampled_from(["set", "cut", "double"]))
        if change == "set":
            data[position] = draw(st.integers(0, 255))
        elif change == "cut":
            del data[position : position + draw(st.integers(1, 20))]
        else:
            data[position:position] = data[position : position + draw(st.integers(1, 20))]
        data = data or bytearray(b"{")
    return bytes(data)


BODIES = st.binary(max_size=200) | damaged() | (NEAR | JSON).map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not for it")

    store = tmp_path_factory.mktemp("plain")
    model = load_model(store / folder_name(write_model(store)))
    log = PredictionLog(tmp_path_factory.mktemp("rows"), "v1-a", "v1", model.digest)
    yield RequestPath(Identity("flight-delay", "v1", "events"), model, log, inner)
    log.close()


def ask(app: RequestPath, body: bytes) -> tuple[int, bytes]:
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": "http.request", "body": body}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


@given(BODIES)
@example(VALID)
@example(b'{"rows":[{"distance":' + b"9" * 400 + b"}]}")
@example(b"[" * 100_000)
@example(b'{"rows":[{"carrier":"\\ud800"}],"at":1}')
@settings(max_examples=1000, deadline=None)
def test_any_body_is_answered(app: RequestPath, body: bytes) -> None:
    status, answer = ask(app, body)
    found = msgspec.json.decode(answer)
    assert status in (200, 400, 413)
    if status == 200:
        assert all(0 <= row["score"] <= 1 for row in found["rows"])
    else:
        assert len(found["error"]) < 500
        assert ": got " in found["error"]
