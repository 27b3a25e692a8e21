"""A replay, and a controller that is slow to hear the time: event time does not run away from it."""

from __future__ import annotations

import asyncio

from tidegate.traffic.questions import Question
from tidegate.traffic.replay import Replay

RATE, QUESTIONS, QUIET = 300.0, 1200, 20


class Site:
    """Answers every request; hears the time twice only when no request comes any more."""

    def __init__(self) -> None:
        self.asked, self.labels = 0, 0
        self.heard_at: list[int] = []
        """Requests that had come when the time was heard."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                body, path = await reader.readexactly(size), head.split()[1]
                answer = await self.clock() if path == b"/clock" else b"{}"
                self.asked += path == b"/predict"
                self.labels += body.count(b"request_id") if path == b"/labels" else 0
                said = f"HTTP/1.1 200 OK\r\nx-request-id: {self.asked}\r\nx-tidegate-model: m@v1\r\n"
                writer.write(said.encode() + b"content-length: %d\r\n\r\n" % len(answer) + answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def clock(self) -> bytes:
        before, quiet = -1, 0
        while len(self.heard_at) < 2 and quiet < QUIET:
            quiet = quiet + 1 if self.asked == before else 0
            before = self.asked
            await asyncio.sleep(0.02)  # at this rate six more are due
        self.heard_at.append(self.asked)
        return b'{"busy": false}'


def question(number: int) -> Question:
    return Question(str(number), float(number), {"x": 1.0}, number + 5.0, 1.0, "observed")


def test_who_is_slow_to_hear_the_time_is_waited_for():
    async def played():
        site = Site()
        server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        questions = [question(number) for number in range(QUESTIONS)]
        tally = await Replay(questions, f"http://127.0.0.1:{port}", "t", RATE).run()
        server.close()
        return site, tally

    site, tally = asyncio.run(played())
    assert (tally.sent, tally.failed, site.asked) == (QUESTIONS, 0, QUESTIONS)
    assert site.labels == tally.labels > 0
    assert site.heard_at[1] < QUESTIONS, "requests went on until there were none"
    assert len(tally.pauses) >= 2
