"""A request path asked in-process, and the rows that it logged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tidegate.observations import Prediction, SegmentReader
from tidegate.serve.loaded import load_model
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity


async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"inner"})


class Server:
    def __init__(self, app: RequestPath, folder: Path) -> None:
        self.app, self.folder = app, folder

    def ask(self, path: str, body: bytes = b"", method: str = "POST", headers: dict | None = None, cuts: int = 1):
        sent: list[dict] = []
        size = max(1, -(-len(body) // cuts))
        parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        messages = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)} for i, part in enumerate(parts)
        ]

        async def receive() -> dict:
            return messages.pop(0)

        async def send(message: dict) -> None:
            sent.append(message)

        pairs = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        asyncio.run(self.app(scope, receive, send))
        start, answer = sent
        found = {k.decode(): v.decode() for k, v in start["headers"]}
        return start["status"], found, answer["body"]

    def rows(self) -> list[Prediction]:
        self.app.scorer.log.flush()
        return SegmentReader(self.folder).read()


def server(model_folder: Path, folder: Path, clock: str = "events") -> Server:
    model = load_model(model_folder)
    log = PredictionLog(folder, "v1-a", "v1", model.digest)
    return Server(RequestPath(Identity("flight-delay", "v1", clock, "secret"), model, log, nothing_else), folder)
