from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.console_state import TOKEN, add_data_versions, in_canary, told_of_drift
from tests.simulated_loop import World
from tidegate.console.serve import create_app


class Client:
    """Requests to the console itself, one at a time."""

    def __init__(self, folder: Any) -> None:
        self.app = create_app(folder)

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://console") as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def order(self, release: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """A form as the page sends it."""
        words = {"by": "ann", "reason": "the labels look wrong", "token": TOKEN, **form}
        path = f"/console/models/quick/releases/{release}/orders"
        return self.request("POST", path, data=words, headers=headers or {})


@pytest.fixture(scope="package")
def lived(tmp_path_factory) -> World:
    """v4 is in canary against v2; drift was looked at; there are two data versions."""
    world = in_canary(tmp_path_factory.mktemp("console") / "state")
    told_of_drift(world, ["not_assessable", "none", "data_drift", "data_drift"])
    add_data_versions(world.folder)
    return world


@pytest.fixture(scope="package")
def client(lived) -> Client:
    return Client(lived.folder)


@pytest.fixture
def fork(lived, tmp_path) -> World:
    """The same life in a folder of its own, to go on."""
    return lived.fork(tmp_path / "state")
