"""``tidegate up``: gateway, services, controller and console of one model on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.controller.clock import ClockKind, EventClock, WallClock
from tidegate.errors import PlatformError
from tidegate.journal.store import open_journal
from tidegate.spec import Model
from tidegate.state import lock, prepare, token

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from tidegate.controller.loop import Controller


def serve_until_stopped(model: Model, state: Path, port: int, kind: ClockKind, ready: Callable[[str], None]) -> None:
    """Start everything, call `ready` with the gateway's address, and stop everything in order at the end.

    What a killed predecessor left running is adopted, so that traffic goes on while a controller is away.
    Raises UserError for a port in use, a state folder in use or one that cannot be written.
    """
    state = prepare(state)
    with lock(state):
        _log_to(state / "controller.log")
        from tidegate.targets.local import LocalTarget

        control_port = _control_port(state)
        target = LocalTarget(state, model=model.name, port=port, clock=kind, control_port=control_port)
        target.start()
        try:
            controller, app = _compose(model, state, target, kind)
            with ThreadPoolExecutor(1, "controller") as pool:
                looping = pool.submit(controller.run)
                try:
                    asyncio.run(_serve(app, control_port, looping, lambda: ready(f"http://127.0.0.1:{target.port}")))
                finally:
                    controller.stop()
                    looping.result()
        finally:
            target.stop()


def _compose(model: Model, state: Path, target: object, kind: ClockKind) -> tuple[Controller, Starlette]:
    from tidegate.console.app import create_app
    from tidegate.controller.feed import Feed
    from tidegate.controller.loop import Controller
    from tidegate.orchestrators.local import LocalOrchestrator

    journal = open_journal(state, create=True)
    events = journal.read(model.name)
    clock = EventClock(max((event.time for event in events), default=0.0)) if kind == "events" else WallClock()
    feed = Feed(state, model)
    controller = Controller(model, journal, target, LocalOrchestrator(state), clock, feed)  # type: ignore[arg-type]
    return controller, create_app(controller, clock, feed.take_labels, token(state))


async def _serve(app: Starlette, port: int, looping: Future[None], ready: Callable[[], None]) -> None:
    """Run the control server until SIGINT or SIGTERM, or until the controller's loop has ended by a fault."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_config=None, access_log=False))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    looping.add_done_callback(lambda _: setattr(server, "should_exit", True))
    serving = asyncio.create_task(server._serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await serving
    if not server.started:
        raise PlatformError(f"the control server did not start on port {port}")


def _control_port(state: Path) -> int:
    """The control server's port: the one that a gateway left running knows, else a free one."""
    path = state / "target" / "control.json"
    if path.is_file():
        return int(json.loads(path.read_text())["port"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"port": port}))
    return port


def _log_to(path: Path) -> None:
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
