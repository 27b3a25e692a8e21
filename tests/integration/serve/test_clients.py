"""Clients that are slow, that send too much, and that go away: nobody else notices."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from one_service import served

from tidegate.serve.http import LARGEST_BODY
from tidegate.targets.gatewayd import http

BODY = b'{"rows":[{"distance":1}]}'
SLOW = 200
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def port(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(model_folder, tmp_path_factory.mktemp("served")) as (found, _):
        yield found


def connected(port: int, data: bytes) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=20)
    one.sendall(data)
    return one


def answer(one: socket.socket) -> bytes:
    """What comes until the server closes, or the first read that brings a whole small answer."""
    data = b""
    while b"\r\n\r\n" not in data or not data.rstrip().endswith((b"}", b"}]}")):
        part = one.recv(65536)
        if not part:
            break
        data += part
    return data


@pytest.mark.parametrize("where", [7, len(HEAD) + 10, len(HEAD) + 20 + len(BODY)])
def test_slow_clients_do_not_hold_others_up(port: int, where: int) -> None:
    message = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(port, message[:where])) for _ in range(SLOW)]
        for _ in range(50):
            assert http(port, "/predict", "POST", BODY)[0] == 200
        # they were waited for: each gets its answer once the rest is there
        for one in slow[:: SLOW // 20]:
            one.sendall(message[where:])
            assert answer(one).startswith(b"HTTP/1.1 200")


def test_who_drips_byte_by_byte_is_answered_and_holds_nobody_up(port: int) -> None:
    message = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(port, b"")) for _ in range(20)]
        for index in range(len(message)):
            for one in slow:
                one.sendall(message[index : index + 1])
            if index % 10 == 0:
                assert http(port, "/predict", "POST", BODY)[0] == 200
        assert all(answer(one).startswith(b"HTTP/1.1 200") for one in slow)


@pytest.mark.parametrize("path", [b"/predict", b"/rank", b"/explain", b"/v2/models/flight-delay/infer"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_and_is_not_read_to_its_end(port: int, path: bytes, chunked: bool) -> None:
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n" % path
    if chunked:
        start = head + b"Transfer-Encoding: chunked\r\n\r\n"
        part = b"10000\r\n" + b" " * 65536 + b"\r\n"
    else:
        start, part = head + b"Content-Length: %d\r\n\r\n" % (1 << 40), b" " * 65536
    with connected(port, start) as one:
        sent = 0
        one.settimeout(10)
        try:
            while sent < 64 * LARGEST_BODY:
                one.sendall(part)
                sent += len(part)
        except OSError:
            pass
        assert sent < 64 * LARGEST_BODY
    with connected(port, start) as one:
        for _ in range(LARGEST_BODY // 65536 + 1):
            one.sendall(part)
        found = answer(one)
    assert found.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in found
    assert b"body: got over" in found
    assert http(port, "/predict", "POST", BODY)[0] == 200


def test_who_goes_away_leaves_no_row_and_no_trouble(port: int) -> None:
    for _ in range(50):
        connected(port, HEAD + b"Content-Length: 500\r\n\r\n" + BODY).close()
    deadline = time.monotonic() + 20
    while http(port, "/readyz")[0] != 200:
        assert time.monotonic() < deadline
    assert http(port, "/predict", "POST", BODY)[0] == 200
