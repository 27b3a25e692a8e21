"""``tidegate console``: the console alone, over the state folder of whatever wrote it. Does I/O."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tidegate.console.reader import Reader
from tidegate.console.rendered import ROOT
from tidegate.console.routes import Console, folders_below
from tidegate.errors import UserError
from tidegate.state import token

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"
GRACE = 5
"""Seconds for what is being answered when a server ends."""


def server(app: Any, host: str, port: int, stop: Callable[[], None]) -> uvicorn.Server:
    """A server for an app with a console; `stop` lets go of who watches, who else would hold the end up."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            stop()
            await super().shutdown(sockets)

    settings: Any = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": GRACE}
    return Server(uvicorn.Config(app, host, port, **settings))


async def answer(http: uvicorn.Server, ready: Callable[[], None]) -> None:
    """Run it until SIGINT or SIGTERM, which end it as they should; `ready` is called when it answers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, setattr, http, "should_exit", True)
    # `serve` would raise the signal again when all is over
    serving = asyncio.create_task(http._serve())
    while not http.started and not serving.done():
        await asyncio.sleep(0.01)
    if http.started:
        ready()
    await serving


def create_app(state: Path) -> Starlette:
    """The pages over a state folder. UserError where it has no journal; where it has no token, nothing is ordered."""
    reader = Reader(state, folders_below(state))
    reader.heads()
    try:
        allowed = token(state)
    except UserError:
        allowed = ""

    async def home(_request: Request) -> Response:
        return RedirectResponse(ROOT)

    console = Console(reader, allowed)
    app = Starlette(routes=[Route("/", home), *console.routes()])
    app.state.console = console
    return app


def serve(state: Path, port: int, ready: Callable[[str], None]) -> None:
    """Answer until Ctrl-C; `ready` gets the address. UserError for a port in use."""
    from tidegate.targets.processes import free_port, is_free

    app = create_app(state)
    if port and not is_free(port):
        raise UserError(f"port {port}", "in use", "a port that nothing listens on; 0 chooses one")
    port = port or free_port()

    http = server(app, HOST, port, app.state.console.stop)
    asyncio.run(answer(http, lambda: ready(f"http://{HOST}:{port}{ROOT}")))
