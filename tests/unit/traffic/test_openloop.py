from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from tidegate.traffic.openloop import Answer, OpenLoop

OK = b"HTTP/1.1 200 OK\r\nX-Request-Id: id-%d\r\nx-tidegate-model: m@v1\r\nContent-Length: 4\r\n\r\nbody"


@dataclass
class Site:
    """A server of few words: `answer(number)` gives the bytes, None closes the connection."""

    answer: Callable[[int], bytes | None] = lambda number: OK % number
    hold: asyncio.Event | None = None
    connections: int = 0
    closing: int = 0
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.closing += b"Connection: close" in head
                self.bodies.append(await reader.readexactly(size))
                if self.hold is not None:
                    await self.hold.wait()
                if (answer := self.answer(len(self.bodies))) is None:
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


def with_client(site: Site, story: Callable[[OpenLoop, list[Answer]], Awaitable[None]]) -> list[Answer]:
    async def main() -> list[Answer]:
        answers: list[Answer] = []
        server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
        client = OpenLoop("127.0.0.1", server.sockets[0].getsockname()[1], answers.append)
        await story(client, answers)
        client.close()
        server.close()
        return answers

    return asyncio.run(main())


def test_every_request_is_answered_once_half_on_new_connections() -> None:
    site = Site()

    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        results = await client.run((i / 1000, "/predict", b"%d" % i) for i in range(100))
        assert (results.sent, results.answered, results.failed, results.statuses) == (100, 100, 0, {200: 100})

    answers = with_client(site, story)
    assert sorted(answer.tag for answer in answers) == list(range(100))
    assert sorted(site.bodies, key=int) == [b"%d" % i for i in range(100)]
    assert site.closing == 50
    assert 51 <= site.connections < 100
    assert {(answer.status, answer.model, answer.body) for answer in answers} == {(200, "m@v1", b"body")}
    assert len({answer.request_id for answer in answers}) == 100


def test_a_server_that_does_not_answer_does_not_hold_back_what_is_due() -> None:
    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        site.hold = asyncio.Event()
        for i in range(20):
            client.submit(i / 1000, "/predict", b"x", i)
        running = asyncio.create_task(client.run())
        while client.sent < 20:
            await asyncio.sleep(0.001)
        assert (client.in_flight, answers, client.oldest_open()) == (20, [], 0)
        site.hold.set()
        await running
        assert client.in_flight == 0
        assert client.oldest_open() is None

    site = Site()
    answers = with_client(site, story)
    assert len(answers) == 20


def test_latency_counts_from_the_due_time() -> None:
    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        client.start()
        while client.now < 0.2:
            await asyncio.sleep(0.01)
        client.submit(0.0, "/predict", b"late", "late")
        await client.drain()
        assert answers[0].latency >= 0.2

    with_client(Site(), story)


def test_a_pause_shifts_the_schedule() -> None:
    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        client.start()
        client.submit(0.05, "/predict", b"x", 1)
        client.pause()
        before = client.now
        await asyncio.sleep(0.2)
        assert (client.sent, client.now) == (0, before)
        client.resume()
        await client.drain()
        assert client.sent == 1
        assert answers[0].due == 0.05

    with_client(Site(), story)


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"])
def test_a_lost_connection_is_one_failed_answer(answer: bytes | None) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer or b"")
        writer.close()

    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        results = await client.run([(0.0, "/predict", b"")])
        assert (results.sent, results.answered, results.failed) == (1, 0, 1)

    site = Site()
    site.serve = cut  # type: ignore[method-assign]
    answers = with_client(site, story)
    assert [one.error for one in answers] == ["connection lost: closed by the server"]


def test_a_refused_connection_is_one_failed_answer_and_nothing_is_sent_twice() -> None:
    async def main() -> list[Answer]:
        answers: list[Answer] = []
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        client = OpenLoop("127.0.0.1", port, answers.append)
        await client.run((0.0, "/predict", b"x") for _ in range(3))
        client.close()
        return answers

    answers = asyncio.run(main())
    assert [answer.status for answer in answers] == [0, 0, 0]
    assert all(answer.error.startswith("connect: ") for answer in answers)


def test_an_answer_in_pieces_and_in_chunks_is_put_together() -> None:
    chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"

    async def story(client: OpenLoop, answers: list[Answer]) -> None:
        results = await client.run([(0.0, "/predict", b"x")])
        assert (results.failed, results.statuses) == (1, {503: 1})

    with_client(Site(lambda number: chunked), story)
