"""``tidegate up``: gateway, services, controller and console of one model on one machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.controller.clock import ClockKind, EventClock, WallClock
from tidegate.errors import PlatformError, UserError
from tidegate.journal.store import open_journal
from tidegate.runs import check
from tidegate.spec import Model
from tidegate.state import lock, prepare, token

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from tidegate.controller.loop import Controller
    from tidegate.serve.batch_jobs import LocalBatches
    from tidegate.targets.streams import Streams

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve_until_stopped(
    model: Model, state: Path, port: int, kind: ClockKind, ready: Callable[[str], None], nats: str | None = None
) -> None:
    """Start everything, call `ready` with the gateway's address, and stop everything in order at the end.

    What a killed predecessor left running is adopted, so that traffic goes on while a controller is away. `nats`: URL
    of the server that has the workload's streams; without it an embedded one is started.
    Raises UserError for a port in use, a state folder in use or one that cannot be written.
    """
    check(model)
    _check_port(state, port)
    state = prepare(state)
    with lock(state), _interruptible():
        _log_to(state / "controller.log")
        from tidegate.register.models import trusted
        from tidegate.targets.local import LocalTarget

        control_port = _control_port(state)
        keys = trusted(model.spec.trust, state)
        target = LocalTarget(
            state, model=model.name, port=port, clock=kind, control_port=control_port, public_keys=keys,
            services=(*_service_arguments(model, state), *_lookup_arguments(model, state)),
        )  # fmt: skip
        streams = _streams(model, state, kind, nats)
        try:
            target.start()
            if streams:
                streams.start()
            controller, app = _compose(model, state, target, kind)
            with ThreadPoolExecutor(1, "controller") as pool:
                looping = pool.submit(controller.run)
                try:
                    asyncio.run(_serve(app, control_port, looping, lambda: ready(f"http://127.0.0.1:{target.port}")))
                finally:
                    _ignore_signals()
                    controller.stop()
                    wait([looping])
                    _stop_runs(state, controller)
                    looping.result()
        finally:
            _ignore_signals()
            if streams:
                streams.stop()
            target.stop()


def _streams(model: Model, state: Path, kind: ClockKind, nats: str | None) -> Streams | None:
    """The processes of the workload's streams; None where it has none, or where no row may be kept.

    UserError when `nats` is of no use then.
    """
    from tidegate.targets.streams import Streams
    from tidegate.workload import load_workload

    name = model.spec.workload
    if load_workload(name).streams and model.spec.training.retain:
        return Streams(state, model=model.name, workload=name, clock=kind, url=nats)
    if nats is not None:
        why = f"the workload {name} has no streams" if model.spec.training.retain else "training.retain is false"
        raise UserError("--nats", "a URL", f"nothing: {why}")
    return None


def _service_arguments(model: Model, state: Path) -> Sequence[str]:
    """Arguments with which services answer by entity key; none where the workload has no repo with an online store.

    Where rows are not retained there is no live repo to look keys up in, and services log no features.
    """
    if not model.spec.training.retain:
        return ("--no-features",)
    from tidegate.features.live import live_repo
    from tidegate.workload import load_workload

    name = model.spec.workload
    try:
        live = live_repo(state, load_workload(name), name)
    except UserError as error:
        logging.getLogger(__name__).warning("no answers by key: %s", error)
        return ()
    return ("--workload", name, "--online", str(live.online), "--project", live.project)


def _lookup_arguments(model: Model, state: Path) -> Sequence[str]:
    """Arguments with which services answer what the scheduled batch predicted; none where there is no schedule."""
    from tidegate.serve.lookup import lookup_file

    return ("--lookup", str(lookup_file(state))) if model.spec.batch else ()


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM interrupts like Ctrl-C, also while things start; both are what they were at the end."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_runs(state: Path, controller: Controller) -> None:
    """End the runs that the controller started; a person's own run in another terminal goes on."""
    from tidegate.orchestrators.local import LocalOrchestrator

    for run in controller.state.running:
        if run.by == "trigger":
            LocalOrchestrator(state).stop(run.name)
    batch = controller.state.batch
    if controller.batches and batch and batch["ok"] is None:
        controller.batches.stop(batch["run"])  # it goes on where it was at the next start


def _ignore_signals() -> None:
    """While everything stops, a second Ctrl-C must not leave half of it running."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _check_port(state: Path, port: int) -> None:
    """UserError when another one than this folder's own gateway listens on the port; nothing was written yet."""
    from tidegate.targets.processes import Record, is_free

    if port == 0 or is_free(port):
        return
    known = state / "target" / "processes.json"
    if known.is_file() and any(p.role == "gateway" and p.port == port for p in Record(known).alive):
        return
    raise UserError(f"port {port}", "in use", "a port that nothing listens on")


def _compose(model: Model, state: Path, target: object, kind: ClockKind) -> tuple[Controller, Starlette]:
    from tidegate.console.app import create_app
    from tidegate.console.reader import Reader
    from tidegate.console.routes import Console
    from tidegate.controller.feed import Feed
    from tidegate.controller.loop import Controller
    from tidegate.controller.mirror import AliasMirror
    from tidegate.controller.webhook import webhook_of
    from tidegate.orchestrators.choose import orchestrator_of

    journal = open_journal(state, create=True)
    events = journal.read(model.name)
    clock = EventClock(max((event.time for event in events), default=0.0)) if kind == "events" else WallClock()
    feed = Feed(state, model)
    mirror = AliasMirror(state, model.name)
    doing: Any = (
        target,
        orchestrator_of(model, state),
        clock,
        feed,
        mirror,
        _batches(model, state),
        webhook_of(model.spec),
    )
    controller = Controller(model, journal, *doing)
    console = Console(Reader(state), token(state))
    app = create_app(controller, clock, feed.take_labels, token(state), console)
    app.state.console = console
    return controller, app


def _batches(model: Model, state: Path) -> LocalBatches | None:
    """What runs the batches of the Model file's schedule; None where it has none."""
    from tidegate.serve.batch_jobs import LocalBatches

    return LocalBatches(model, state) if model.spec.batch else None


async def _serve(app: Starlette, port: int, looping: Future[None], ready: Callable[[], None]) -> None:
    """Run the control server until SIGINT or SIGTERM, or until the controller's loop has ended by a fault."""
    from tidegate.console.serve import answer
    from tidegate.console.serve import server as server_of

    server = server_of(app, "127.0.0.1", port, app.state.console.stop)
    looping.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await answer(server, ready)
    if not server.started:
        raise PlatformError(f"the control server did not start on port {port}")


def _control_port(state: Path) -> int:
    """The control server's port: the one that a gateway left running knows, where it is still free."""
    from tidegate.targets.processes import free_port, is_free

    path = state / "target" / "control.json"
    if path.is_file() and is_free(port := int(json.loads(path.read_text())["port"])):
        return port
    port = free_port()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"port": port}))
    return port


def _log_to(path: Path) -> None:
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
