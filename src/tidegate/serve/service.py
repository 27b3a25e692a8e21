"""One process serves one model version: ``python -m tidegate.serve.service --model-dir DIR ...``.

The process is ready in well under a second, because BentoML, which takes two, is imported only when somebody asks for
a page that it answers. ``bentoml serve tidegate.serve.service:PredictionService`` starts the same app under BentoML.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tidegate.errors import UserError
from tidegate.serve.by_key import KeyLookup
from tidegate.serve.explain import ExplainRoute
from tidegate.serve.http import App, Receive, Scope, Send
from tidegate.serve.loaded import load_model
from tidegate.serve.lookup import LookupRoute
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.process import add_place, read_token, run
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity
from tidegate.train.model_file import FeatureSchema


@dataclass(frozen=True)
class Settings:
    """What one serving process is told at its start."""

    model_dir: Path
    name: str
    version: str
    observations: Path
    clock: Literal["wall", "events"] = "wall"
    token_file: Path | None = None
    writer: str = ""
    """Name of its segments; empty takes one that no other process has."""
    digest: str | None = None
    """None takes the manifest's."""
    public_keys: tuple[str, ...] = ()
    """Ed25519, 64 hex digits each; with none the signature is not checked."""
    workload: str = ""
    """``package.module:object``; with it and `online` the service also answers by key."""
    online: Path | None = None
    """Feast's SQLite online store."""
    project: str = ""
    """Name of the Feast project in it."""
    retain: bool = True
    """False: the prediction log keeps no features."""
    lookup: Path | None = None
    """The file of precomputed predictions; with it the service also answers /lookup/{key}."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """From ``TIDEGATE_MODEL_DIR``, ``TIDEGATE_NAME`` ...; UserError names one that is missing or wrong."""
        given = {name.lower().removeprefix("tidegate_"): value for name, value in environment.items()}
        required = ("model_dir", "name", "version", "observations")
        if missing := [name for name in required if not given.get(name)]:
            raise UserError(f"TIDEGATE_{missing[0].upper()}", None, "a value in the environment")
        clock = given.get("clock", "wall")
        if clock not in ("wall", "events"):
            raise UserError("TIDEGATE_CLOCK", clock, "wall or events")
        token_file, online = given.get("token_file"), given.get("online")
        return cls(
            Path(given["model_dir"]), given["name"], given["version"], Path(given["observations"]),
            clock, Path(token_file) if token_file else None, given.get("writer", ""), given.get("digest") or None,  # type: ignore[arg-type]
            tuple(given.get("public_keys", "").split()), given.get("workload", ""), Path(online) if online else None,
            given.get("project", ""), given.get("retain", "true") != "false",
            Path(given["lookup"]) if given.get("lookup") else None,
        )  # fmt: skip


def wrap(settings: Settings, inner: App) -> RequestPath:
    """Load and prove the model and put the hot path round `inner`; afterwards nothing loaded is garbage-collected."""
    model = load_model(settings.model_dir, settings.digest, _keys(settings.public_keys))
    writer = settings.writer or f"{settings.version}-{os.getpid()}-{os.urandom(3).hex()}"
    log = PredictionLog(settings.observations, writer, settings.version, model.digest, settings.retain)
    who = Identity(settings.name, settings.version, settings.clock, read_token(settings.token_file))
    app = RequestPath(who, model, log, inner, _lookup(settings, model.schema))
    explain = ExplainRoute(app.scorer, settings.model_dir)
    app.add(explain.operation, explain)
    if settings.lookup:
        app.add(LookupRoute.operation, LookupRoute(app.scorer, settings.lookup))
    gc.collect()
    gc.freeze()
    # rows wait for the log by the thousand: collecting after each 700 of them goes over the same ones again and again
    gc.set_threshold(10_000, 10, 10)
    return app


class LazyBento:
    """BentoML's own app, built when one of its pages is first asked for; any other path is 404 without it.

    /metrics is none of them: BentoML collects its metrics through a folder that only its own supervisor makes.
    """

    def __init__(self) -> None:
        self._app: Any = None
        self._building = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["type"] == "lifespan":
            return await self._lifespan(receive, send)
        if scope["type"] == "http" and not f"{scope['path']}/".startswith(_PAGES):
            return await _not_found(send)
        await (await self._built())(scope, receive, send)

    async def _built(self) -> Any:
        async with self._building:
            if self._app is None:
                app = await asyncio.get_running_loop().run_in_executor(None, _bento_app)
                await self._stack.enter_async_context(app.router.lifespan_context(app))
                self._app = app
        return self._app

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stack.aclose()
        await send({"type": "lifespan.shutdown.complete"})


_PAGES = ("//", "/docs.json/", "/schema.json/", "/healthz/", "/static_content/", "/assets/")
"""Paths of BentoML's own pages, each with a slash behind it."""


async def _not_found(send: Send) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"error":"no such path; see /openapi.json"}'})


def _bento_app() -> Any:
    from tidegate.serve.bento import PredictionService

    return PredictionService.bare()  # type: ignore[attr-defined]


def _lookup(settings: Settings, schema: FeatureSchema) -> KeyLookup | None:
    """What answers by key, where the service was told of a workload; only then is the workload imported."""
    if not settings.workload:
        return None
    if settings.online is None or not settings.project:
        raise UserError("--online and --project", None, "the online store and its project, with --workload")
    from tidegate.features.online import OnlineReader
    from tidegate.workload import load_workload

    workload = load_workload(settings.workload)
    return KeyLookup(workload, schema, OnlineReader(settings.online, settings.project, workload.view_definitions()))


def _keys(texts: Sequence[str]) -> list[bytes]:
    try:
        return [bytes.fromhex(text) for text in texts]
    except ValueError:
        raise UserError("public key", texts, "64 hex digits") from None


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tidegate.serve.service", description="Serve one model version.")
    parser.add_argument("--model-dir", required=True, type=Path)
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--version", required=True, help="v1, v1.1 ...")
    parser.add_argument("--observations", required=True, type=Path, help="folder of the prediction log")
    parser.add_argument("--clock", choices=("wall", "events"), default="wall")
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--writer", default="")
    parser.add_argument("--digest")
    parser.add_argument("--public-key", action="append", default=[], help="64 hex digits; may be given twice")
    parser.add_argument("--workload", default="", help="package.module:object, to answer by key")
    parser.add_argument("--online", type=Path, help="Feast's SQLite online store")
    parser.add_argument("--project", default="", help="Feast's project in it")
    parser.add_argument("--no-features", action="store_true", help="keep no features in the prediction log")
    parser.add_argument("--lookup", type=Path, help="file of precomputed predictions, to answer /lookup/{key}")
    add_place(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM; then stop accepting, answer what is in flight, finish the log and return 0."""
    given = _arguments(sys.argv[1:] if arguments is None else arguments)
    settings = Settings(
        given.model_dir, given.name, given.version, given.observations, given.clock, given.token_file,
        given.writer, given.digest, tuple(given.public_key), given.workload, given.online, given.project,
        not given.no_features, given.lookup,
    )  # fmt: skip
    return run(given, lambda: wrap(settings, LazyBento()))


def __getattr__(name: str) -> Any:
    """``PredictionService``, for ``bentoml serve``; imported only when it is asked for."""
    if name == "PredictionService":
        from tidegate.serve.bento import PredictionService

        return PredictionService
    raise AttributeError(name)


if __name__ == "__main__":
    sys.exit(main())
