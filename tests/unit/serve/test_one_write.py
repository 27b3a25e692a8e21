"""An answer goes out in one write under uvicorn, whichever way its connection ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tidegate.serve.http import one_write

ASKED = b"GET /livez HTTP/1.1\r\nhost: a\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer(scope: Any, receive: Any, send: Any) -> None:
    with one_write(send):
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


async def asked(kind: type[Any], data: bytes) -> tuple[list[bytes], bool]:
    """What was written, and whether the connection was closed behind it."""
    config, wire = uvicorn.Config(answer, log_level="warning", lifespan="off"), Wire()
    config.load()
    protocol = kind(config, ServerState(), {}, asyncio.get_running_loop())
    protocol.connection_made(wire)
    protocol.data_received(data)
    for _ in range(10):
        await asyncio.sleep(0)
    closed = wire.closed
    protocol.connection_lost(None)
    return wire.written, closed


@pytest.mark.parametrize("kind", [HttpToolsProtocol, H11Protocol])
@pytest.mark.parametrize("closes", [False, True])
def test_head_and_body_are_one_write(kind: type[Any], closes: bool) -> None:
    more = b"connection: close\r\n" if closes else b""
    (written,), closed = asyncio.run(asked(kind, ASKED + more + b"\r\n"))
    assert (written.startswith(b"HTTP/1.1 200"), written.endswith(b"\r\n\r\nok")) == (True, True)
    assert closed is closes


def test_pipelined_requests_are_answered_in_order() -> None:
    answers, _ = asyncio.run(asked(HttpToolsProtocol, (ASKED + b"\r\n") * 3))
    assert [written.endswith(b"\r\n\r\nok") for written in answers] == [True] * 3


def test_any_other_send_is_left_alone() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(answer({}, None, send))
    assert sent == ["http.response.start", "http.response.body"]
