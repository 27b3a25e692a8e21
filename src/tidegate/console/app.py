"""The control server behind the gateway: labels, the event clock, the state of the loop, and the console's pages.

Whatever changes something needs the bearer token of the state folder; reading needs none.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidegate.console.routes import Console, body_within
from tidegate.controller.clock import Clock, EventClock
from tidegate.errors import PlatformError, UserError
from tidegate.monitor.labels import BodyTooLargeError

LARGEST_BODY = 4 * 2**20
"""Bytes of a labels body; larger ones are refused with 413."""


YEAR_10000 = 253402300800.0
"""Seconds since the epoch; a clock beyond it was announced in another unit."""


class Loop(Protocol):
    """What the control server asks of the controller."""

    def busy(self) -> list[str]:
        """What is being worked on while a replay may stand still: runs and start-ups."""

    def status(self) -> Mapping[str, Any]:
        """The state for people and machines."""


def create_app(
    loop: Loop,
    clock: Clock,
    take_labels: Callable[[bytes], Mapping[str, int]],
    token: str,
    console: Console | None = None,
) -> Starlette:
    """The ASGI app. `take_labels` gets the bounded body of ``POST /labels`` and may raise UserError or PlatformError.

    console: the pages under ``/console``; None: there are none.
    """
    expected = f"Bearer {token}".encode()

    def allowed(request: Request) -> bool:
        return hmac.compare_digest(request.headers.get("authorization", "").encode(), expected)

    async def labels(request: Request) -> JSONResponse:
        if not allowed(request):
            return _refuse(401, "POST /labels needs the bearer token of the state folder")
        body = await body_within(request, LARGEST_BODY)
        if body is None:
            return _refuse(413, f"body over {LARGEST_BODY} bytes")
        try:
            return JSONResponse(dict(take_labels(body)))
        except (UserError, PlatformError) as error:
            return _refuse(_status_of(error), str(error))

    async def announce(request: Request) -> JSONResponse:
        if not allowed(request):
            return _refuse(401, "POST /clock needs the bearer token of the state folder")
        if not isinstance(clock, EventClock):
            return _refuse(409, "POST /clock: the clock is the wall's; start with --clock events to announce time")
        try:
            now = msgspec.json.decode(await body_within(request, LARGEST_BODY) or b"", type=_Now).now
        except msgspec.DecodeError as error:
            return _refuse(400, f'POST /clock: {error}; takes {{"now": seconds since the epoch}}')
        return JSONResponse({"now": clock.announce(now), "busy": loop.busy()})

    async def read_clock(_request: Request) -> JSONResponse:
        return JSONResponse({"now": clock.now(), "busy": loop.busy()})

    async def status(_request: Request) -> JSONResponse:
        return JSONResponse(dict(loop.status()))

    return Starlette(
        routes=[
            Route("/labels", labels, methods=["POST"]),
            Route("/clock", announce, methods=["POST"]),
            Route("/clock", read_clock, methods=["GET"]),
            Route("/status", status, methods=["GET"]),
            *(console.routes() if console else ()),
        ]
    )


class _Now(msgspec.Struct):
    now: Annotated[float, msgspec.Meta(ge=0, lt=YEAR_10000)]


def _status_of(error: UserError | PlatformError) -> int:
    """503 says that nothing was taken and that the same may be sent again."""
    if isinstance(error, PlatformError):
        return 503
    return 413 if isinstance(error, BodyTooLargeError) else 400


def _refuse(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)
