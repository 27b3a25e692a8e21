"""The console over HTTP: pages, the stream of what changed, and what a person orders.

Reading needs no token. An order needs it in the form itself or as a bearer token: nothing that a browser sends by
itself, so another site's form can order nothing; what says that it comes from another site is refused before.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from tidegate.console import data_pages, lineage_pages, pages, performance_page, release_page
from tidegate.console.exported import exported
from tidegate.console.reader import Reader
from tidegate.console.rendered import ROOT, asset, template
from tidegate.controller import orders
from tidegate.errors import PlatformError, Refused, TidegateError, UserError
from tidegate.journal import views
from tidegate.journal.browse import Asked
from tidegate.train.model_file import folder_name

logger = logging.getLogger(__name__)

ORDERS = ("approve", "abort", "rollback")
MOST_FORM = 16 * 2**10
"""Bytes of an order."""
LONGEST = {"by": 80, "reason": 500}
STREAM = 50.0
"""Seconds after which a stream ends and the browser asks again: the gateway ends a longer answer."""
EVERY = 1.0
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SAFE = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
Show = Callable[[Request], tuple[str, Mapping[str, Any]]]


class Console:
    """The pages of one reader; `token` allows orders, which go to the journal of its folder; empty: there are none."""

    def __init__(self, reader: Reader, token: str) -> None:
        self._reader, self._token, self._over = reader, token, False
        pages.prepare()

    def stop(self) -> None:
        """End every stream within `EVERY`: the server is about to end."""
        self._over = True

    def routes(self) -> list[BaseRoute]:
        """Everything under ``/console``."""
        model = ROOT + "/models/{model}"
        shows: dict[str, Show] = {
            ROOT: self._models,
            ROOT + "/at": self._at,
            ROOT + "/journal": self._journal,
            ROOT + "/journal/{model}/{seq:int}": self._event,
            ROOT + "/requests": self._request,
            model: self._model,
            model + "/releases/{release}": self._release,
            model + "/performance": self._performance,
            model + "/lineage": self._lineage,
            model + "/versions/{version}": self._version,
            model + "/data": self._data,
            model + "/cost": self._cost,
        }
        return [
            Route(ROOT + "/static/{name}", asset),
            Route(ROOT + "/stream", self._stream),
            Route(ROOT + "/metrics", self._metrics),
            Route(model + "/versions/{version}/card", self._card),
            Route(model + "/releases/{release}/orders", self._order, methods=["POST"]),
            *(Route(path, partial(self._page, show)) for path, show in shows.items()),
        ]

    # --- pages ------------------------------------------------------------------------------------------------------

    async def _page(self, show: Show, request: Request) -> Response:
        """A page; a thread reads and draws it, so that no page keeps the others waiting."""
        return await run_in_threadpool(self._rendered, show, request)

    def _rendered(self, show: Show, request: Request, status: int = 200, **more: Any) -> Response:
        began, work = time.perf_counter(), time.thread_time()
        try:
            name, page = show(request)
        except UserError as error:
            return self._refusal(404, str(error))
        except TidegateError as error:
            logger.error("%s: %s", request.url.path, error)
            return self._refusal(500, str(error))
        body = template(name).render(**{**page, **more}, path=request.url.path)
        spent, work = 1000 * (time.perf_counter() - began), 1000 * (time.thread_time() - work)
        return HTMLResponse(body, status, {**SAFE, "server-timing": f"page;dur={spent:.1f}, cpu;dur={work:.1f}"})

    def _refusal(self, status: int, why: str) -> Response:
        return HTMLResponse(template("refusal").render(why=why, path="", status=status), status, SAFE)

    def _models(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        asked = request.query_params
        health = asked.get("health", "")
        return "models", pages.models(self._reader, asked.get("q", "")[:200], health, _number(asked.get("page")))

    def _at(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        asked = request.query_params
        model, text = asked.get("model", ""), asked.get("time", "")
        newest = max((e.time for e in self._reader.page(Asked(model=model, looks=True), None, 1)), default=0.0)
        moment = views.seconds(text, "time") if text else newest
        return "at", {**pages.at(self._reader, model, moment, _number(asked.get("page"))), "names": self._names()}

    def _names(self) -> list[str]:
        """Names to choose from; of many none, a field takes any."""
        names = sorted(self._reader.heads())
        return names if len(names) <= 200 else []

    def _model(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "model", pages.model(self._reader, request.path_params["model"])

    def _release(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        told = release_page.release(self._reader, request.path_params["model"], request.path_params["release"])
        return "release", {"refused": "", "given": {}, **told}

    def _performance(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "performance", performance_page.performance(self._reader, request.path_params["model"])

    def _lineage(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "lineage", lineage_pages.versions(
            self._reader, request.path_params["model"], _number(request.query_params.get("page"))
        )

    def _version(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "version", lineage_pages.version(
            self._reader, request.path_params["model"], request.path_params["version"]
        )

    def _data(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        asked = request.query_params
        return "data", data_pages.data(
            self._reader, request.path_params["model"], asked.get("a", ""), asked.get("b", "")
        )

    def _cost(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "cost", data_pages.cost(self._reader, request.path_params["model"])

    def _journal(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        asked = request.query_params
        wanted = Asked(
            model=asked.get("model", ""), kind=asked.get("kind", ""), since=_time(asked.get("since"), "since"),
            until=_time(asked.get("until"), "until"), looks=asked.get("looks") == "1",
        )  # fmt: skip
        key = asked.get("before", "").split("~")
        try:
            before = (float(key[0]), key[1], int(key[2])) if len(key) == 3 else None
        except ValueError:
            raise UserError("before", asked["before"], "what a page of the journal names") from None
        page = pages.journal(self._reader, wanted, before)
        given = {name: asked[name] for name in ("model", "kind", "since", "until", "looks") if asked.get(name)}
        return "journal", {**page, "given": given, "names": self._names()}

    def _event(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        return "event", pages.event(self._reader, request.path_params["model"], request.path_params["seq"])

    def _request(self, request: Request) -> tuple[str, Mapping[str, Any]]:
        asked, model = request.query_params.get("id", "").strip(), request.query_params.get("model", "")
        if not asked:
            return "request", {"asked": "", "model": model, "document": None}
        return "request", lineage_pages.request(self._reader, model, asked)

    async def _card(self, request: Request) -> Response:
        """A version's card, as it was written."""
        model, version = request.path_params["model"], request.path_params["version"]
        try:
            page = await run_in_threadpool(lineage_pages.version, self._reader, model, version)
        except UserError as error:
            return self._refusal(404, str(error))
        path = self._reader.folder_of(model) / "cards" / folder_name(page["document"]["digest"]) / "card.html"
        if not path.is_file():
            return self._refusal(404, f"{model} {version} has no card")
        own = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
        return FileResponse(path, headers={**SAFE, "content-security-policy": own})

    async def _metrics(self, _request: Request) -> Response:
        text = await run_in_threadpool(exported, self._reader)
        return Response(text, media_type="text/plain; version=0.0.4")

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _stream(self, request: Request) -> Response:
        """Server-sent events: the models whose journal grew, with how far."""
        return StreamingResponse(
            self._changes(request, request.query_params.get("model", "")),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def _changes(self, request: Request, model: str) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        known = await run_in_threadpool(self._reader.heads)
        # a page may be older than this stream: it is told where the journal is, and asks again where it is behind
        yield _event(known, model)
        ends = time.monotonic() + STREAM
        while time.monotonic() < ends and not self._over and not await request.is_disconnected():
            await asyncio.sleep(EVERY)
            try:
                now = await run_in_threadpool(self._reader.heads)
            except PlatformError as error:
                logger.warning("%s", error)
                continue
            if changed := {name: seq for name, seq in now.items() if known.get(name) != seq}:
                known = now
                if not model or model in changed:
                    yield _event(changed, model)

    # --- orders -----------------------------------------------------------------------------------------------------

    async def _order(self, request: Request) -> Response:
        model, release = request.path_params["model"], request.path_params["release"]
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return self._refusal(403, "an order comes from this console's own page")
        form = await _form(request)
        if form is None:
            return self._refusal(413, f"a form over {MOST_FORM} bytes")
        refused = self._not_allowed(request, form) or _incomplete(form)
        if not refused:
            words = {"command": form["order"], "by": form["by"].strip(), "reason": form["reason"].strip()}
            try:
                await run_in_threadpool(orders.order, self._reader.folder, release, words, model)
                where = f"{ROOT}/models/{quote(model)}/releases/{quote(release)}"
                return RedirectResponse(where, 303)
            except (UserError, Refused) as error:
                refused = 409, str(error)
        status, why = refused
        kept = {name: form.get(name, "") for name in ("order", "by", "reason")}
        show = partial(self._rendered, self._release, request, status, refused=why, given=kept)
        return await run_in_threadpool(show)

    def _not_allowed(self, request: Request, form: Mapping[str, str]) -> tuple[int, str] | None:
        bearer = request.headers.get("authorization", "")
        given = bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else form.get("token", "").strip()
        if self._token and hmac.compare_digest(given.encode(), self._token.encode()):
            return None
        return 401, "the token is not this console's: it is in the file `token` of the state folder"


def _incomplete(form: Mapping[str, str]) -> tuple[int, str] | None:
    if form.get("order") not in ORDERS:
        return 400, f"order: got {form.get('order', '')!r}, takes one of {', '.join(ORDERS)}"
    for name, longest in LONGEST.items():
        if not 0 < len(form.get(name, "").strip()) <= longest:
            return 400, f"{name}: takes 1 to {longest} characters; it is kept in the journal"
    return None


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a form, None when it is too large."""
    body = await body_within(request, MOST_FORM)
    return None if body is None else dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


async def body_within(request: Request, most: int) -> bytes | None:
    """The request's body, or None when it is over `most` bytes; never holds more than that."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def _event(heads: Mapping[str, int], model: str) -> str:
    told = {model: heads[model]} if model in heads else {} if model else dict(heads)
    return f"event: heads\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"


def _number(text: str | None) -> int:
    return max(1, int(text)) if text and text.isdigit() and len(text) < 9 else 1


def _time(text: str | None, where: str) -> float | None:
    return views.seconds(text, where) if text else None


def folders_below(folder: Path) -> Callable[[str], Path]:
    """Where a model's own files are: in a folder of its name where there is one, as the operator keeps them."""
    return lambda model: folder / model if (folder / model).is_dir() else folder
