"""Sends alerts as Alertmanager takes them: ``POST /api/v2/alerts`` with a list. Its URL is told to nobody."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from tidegate.errors import UserError
from tidegate.spec import ModelSpec

logger = logging.getLogger(__name__)

PATH = "/api/v2/alerts"
"""Where alerts go when the URL names a host only."""
LONGEST = 5.0
"""Seconds that a receiver may take."""
AGAIN = 30.0
"""Seconds of wall time until the next try after one that failed, so that a dead receiver does not slow the loop."""


class Sender(Protocol):
    """Takes alerts to wherever people look."""

    def send(self, alerts: Sequence[Mapping[str, Any]]) -> bool:
        """Whether they arrived; False: not now, ask again."""


def check_alerts(spec: ModelSpec) -> None:
    """UserError, without the URL's text, where the webhook is none."""
    if spec.alerts is None:
        return
    url = _split(spec.alerts.webhook.get_secret_value())
    if url is None:
        raise UserError("spec.alerts.webhook", "a text that is not shown", "an http or https URL with a host")


def webhook_of(spec: ModelSpec) -> Webhook | None:
    """What sends the alerts of a Model file; None where it names no webhook."""
    return Webhook(spec.alerts.webhook.get_secret_value()) if spec.alerts else None


class Webhook:
    """One receiver. A failure is logged by kind and status alone: a URL may carry a token."""

    def __init__(self, url: str) -> None:
        found = _split(url)
        if found is None:
            raise UserError("alerts.webhook", "a text that is not shown", "an http or https URL with a host")
        self._url, self._next = found, 0.0

    def send(self, alerts: Sequence[Mapping[str, Any]]) -> bool:
        """Post them in one request; False where that failed, or where it failed within the last `AGAIN` seconds."""
        if time.monotonic() < self._next:
            return False
        try:
            status = self._post(json.dumps(list(alerts), sort_keys=True).encode())
        except (OSError, HTTPException) as error:
            return self._failed(type(error).__name__)
        return True if 200 <= status < 300 else self._failed(f"status {status}")

    def _post(self, body: bytes) -> int:
        kind = HTTPSConnection if self._url.scheme == "https" else HTTPConnection
        connection = kind(self._url.hostname or "", self._url.port, timeout=LONGEST)
        try:
            connection.request("POST", _target(self._url), body, _headers(self._url))
            return connection.getresponse().status
        finally:
            connection.close()

    def _failed(self, why: str) -> bool:
        self._next = time.monotonic() + AGAIN
        logger.error("alerts not sent (%s); they are sent again in %.0f s", why, AGAIN)
        return False


def _split(url: str) -> SplitResult | None:
    try:
        found = urlsplit(url)
        named = found.scheme in ("http", "https") and found.hostname and found.port != 0
    except ValueError:
        return None
    return found if named and not re.search(r"\s", url) else None


def _target(url: SplitResult) -> str:
    path = url.path if url.path not in ("", "/") else PATH
    return f"{path}?{url.query}" if url.query else path


def _headers(url: SplitResult) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if url.username is not None:
        word = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["authorization"] = f"Basic {base64.b64encode(word.encode()).decode()}"
    return headers
