"""The control server: who may say what, and what it answers when it is said wrongly."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tidegate.console.app import LARGEST_BODY, create_app
from tidegate.controller.clock import Clock, EventClock, WallClock
from tidegate.errors import PlatformError, UserError
from tidegate.monitor.labels import BodyTooLargeError

TOKEN = {"authorization": "Bearer secret"}


class Loop:
    def busy(self) -> list[str]:
        return ["run quick-7"]

    def status(self) -> dict[str, object]:
        return {"model": "quick"}


def take(body: bytes) -> dict[str, int]:
    if body == b"bad":
        raise UserError("labels[0].value", None, "a number from 0 to 1")
    if body == b"large":
        raise BodyTooLargeError("labels", "2000000 bytes", "a body of at most 1048576 bytes")
    if body == b"full":
        raise PlatformError("labels: the disk does not take them; none of this request is acknowledged")
    return {"accepted": len(body)}


class Client:
    """Requests to the app itself, one at a time."""

    def __init__(self, clock: Clock) -> None:
        self.app = create_app(Loop(), clock, take, "secret")

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)


@pytest.fixture
def events() -> Client:
    return Client(EventClock(100.0))


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}])
@pytest.mark.parametrize("path", ["/labels", "/clock"])
def test_what_changes_something_needs_the_token(events, path, headers):
    answer = events.post(path, content=b"{}", headers=headers)
    assert answer.status_code == 401
    assert "bearer token" in answer.json()["error"]


def test_reading_needs_none(events):
    assert events.get("/clock").json() == {"now": 100.0, "busy": ["run quick-7"]}
    assert events.get("/status").json() == {"model": "quick"}


def test_time_is_announced_and_never_goes_back(events):
    assert events.post("/clock", json={"now": 250.5}, headers=TOKEN).json() == {"now": 250.5, "busy": ["run quick-7"]}
    assert events.post("/clock", json={"now": 200}, headers=TOKEN).json()["now"] == 250.5


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b'{"now":"noon"}', b'{"now":-1}', b'{"now":1e400}'])
def test_a_time_that_is_none_is_told(events, body):
    answer = events.post("/clock", content=body, headers=TOKEN)
    assert answer.status_code == 400
    assert "seconds since the epoch" in answer.json()["error"]


def test_milliseconds_are_not_taken_for_seconds(events):
    assert events.post("/clock", json={"now": 1372636800000}, headers=TOKEN).status_code == 400
    assert events.get("/clock").json()["now"] == 100.0


def test_the_walls_clock_is_not_announced():
    answer = Client(WallClock()).post("/clock", json={"now": 1}, headers=TOKEN)
    assert answer.status_code == 409
    assert "--clock events" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"abc", 200, "accepted"),
        (b"bad", 400, "labels[0].value"),
        (b"large", 413, "1048576 bytes"),
        (b"full", 503, "the disk does not take them"),
        (b"x" * (LARGEST_BODY + 1), 413, "body over"),
    ],
)
def test_labels_are_taken_or_refused_by_name(events, body, status, told):
    answer = events.post("/labels", content=body, headers=TOKEN)
    assert (answer.status_code, told in answer.text) == (status, True)


@pytest.mark.parametrize(("method", "path"), [("GET", "/labels"), ("POST", "/status"), ("GET", "/nothing")])
def test_other_ways_are_not_there(events, method, path):
    assert events.request(method, path, headers=TOKEN).status_code in (404, 405)
