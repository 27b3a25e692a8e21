"""Templates with what they use, and the files that pages need. Does I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from tidegate.console.draw import day
from tidegate.console.shown import in_words
from tidegate.journal import views

ROOT = "/console"
ASSETS = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}


@cache
def _assets() -> dict[str, bytes]:
    folder = files("tidegate.console").joinpath("static")
    return {name: folder.joinpath(name).read_bytes() for name in ASSETS}


async def asset(request: Request) -> Response:
    """A file that pages need; its address changes with what is in it."""
    name = request.path_params["name"]
    if name not in ASSETS:
        return Response("no such file", 404)
    keep = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}
    return Response(_assets()[name], media_type=ASSETS[name], headers=keep)


def _asset_url(name: str) -> str:
    return f"{ROOT}/static/{name}?{hashlib.sha256(_assets()[name]).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tidegate.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"when": when, "share": share, "words": in_words, "short": short}
    environment.globals |= {"asset": _asset_url, "root": ROOT, "query": query}
    return environment


@cache
def template(name: str) -> Any:
    """A page's template, read once."""
    return _environment().get_template(f"{name}.html.j2")


def when(time_: float | None, empty: str = "never") -> Markup:
    """A time for people and machines: event time, UTC."""
    if time_ is None:
        return Markup('<span class="muted">{}</span>').format(empty)
    iso = views.iso(time_)
    return Markup('<time datetime="{}">{} <span class="clock">{}</span></time>').format(iso, day(time_), iso[11:16])


def share(value: float) -> str:
    """``25 %``."""
    return f"{value * 100:g} %"


def short(digest: str | None) -> str:
    """The first characters of a digest or a long name."""
    return (digest or "").removeprefix("sha256:")[:12]


def query(given: Mapping[str, object], **more: object) -> str:
    """A query string with some values replaced; empty ones are left out."""
    return urlencode({name: value for name, value in {**given, **more}.items() if value not in ("", None)})
