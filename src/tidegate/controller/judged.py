"""The judge by HTTP, for who releases by other means: ``python -m tidegate.controller.judged --observations DIR ...``.

``GET /judge?champion=V&challenger=W`` answers what a release of one shadow stage would say now of version W, whose
rows are copies of V's requests, told apart by the version that wrote them: pairs need no propensity, so headers need
say nothing. It is the production machine over the same prediction log: a verdict is `promote` or `abort` only where
a release would be promoted or aborted, everything else is `hold`. ``POST /labels`` (bearer token) takes outcomes.

Nothing is kept: who starts again reads the log again. A pair counts from W's first row on.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tidegate.console.app import create_app
from tidegate.controller.clock import WallClock
from tidegate.controller.evidence import ReleaseEvidence
from tidegate.controller.feed import bounds_of
from tidegate.errors import UserError
from tidegate.monitor.labels import LabelIntake
from tidegate.observations import Label, Prediction, SegmentReader
from tidegate.reasons import REASONS
from tidegate.release.machine import open_release, step_from_json
from tidegate.release.stages import Version
from tidegate.serve.process import add_place, read_token, run
from tidegate.spec import ReleaseSpec, describe, read_yaml

LAG = 2.0
"""Seconds: a service's row is on disk by then."""
VERDICTS = {"watch": "promote", "promoted": "promote", "aborted": "abort"}

Json = dict[str, Any]


class Judged:
    """The observation folder and the policy; one release a pair of versions, made when it is first asked for."""

    def __init__(self, observations: Path, policy: ReleaseSpec, now: Callable[[], float] = time.time) -> None:
        self._policy, self._now, self._lock = policy, now, threading.Lock()
        self._readers = [SegmentReader(observations / kind) for kind in ("predictions", "labels")]
        self._rows: dict[str, list[Prediction]] = {}
        self._labels: list[Label] = []
        self._known: set[str] = set()
        self._intake = LabelIntake(observations / "labels", self._is_known, bounds_of(policy))

    def judge(self, champion: str, challenger: str) -> Json:
        """The verdict on `challenger` now; `hold` without a row of it. UserError for two equal names."""
        if not champion or not challenger or champion == challenger:
            raise UserError("champion, challenger", (champion, challenger), "the names of two versions")
        with self._lock:
            self._read()
            copies = self._rows.get(challenger)
            if not copies:
                return {"verdict": "hold", "reason": "no_evidence", "message": REASONS["no_evidence"], "requests": 0}
            return self._verdict(champion, challenger, min(row.time for row in copies))

    def take_labels(self, body: bytes) -> Mapping[str, int]:
        """The body of ``POST /labels``."""
        with self._lock:
            return self._intake.take(body)

    def busy(self) -> list[str]:
        """Nothing is waited for."""
        return []

    def status(self) -> Mapping[str, Any]:
        """Rows by version."""
        with self._lock:
            self._read()
            return {"rows": {version: len(rows) for version, rows in self._rows.items()}, "labels": len(self._labels)}

    def _read(self) -> None:
        predictions, labels = (reader.read() for reader in self._readers)
        for row in predictions:
            if isinstance(row, Prediction) and row.endpoint is None:
                self._rows.setdefault(row.version, []).append(row)
                self._known.add(row.request_id)
        self._labels += [label for label in labels if isinstance(label, Label)]

    def _is_known(self, request_id: str) -> bool:
        if request_id not in self._known:
            self._read()
        return request_id in self._known

    def _verdict(self, champion: str, challenger: str, since: float) -> Json:
        release = open_release(
            "outside", "outside", Version(champion, champion), (Version(challenger, challenger),), self._policy, since
        ).to_json()
        evidence = ReleaseEvidence(release)
        rows = [row for version in (champion, challenger) for row in self._rows.get(version, ()) if row.time >= since]
        # the route says nothing that changes with a version: what a row is, its version tells
        told = {"arm": champion, "propensity": 1.0, "release": release["name"]}
        evidence.add([msgspec.structs.replace(row, **told) for row in rows], self._labels)
        now = self._now() - LAG
        seen = evidence.at(now)
        after, _, judgement = step_from_json(release, seen, now)
        counts: Json = next((place["counts"] for place in seen["places"].values()), {})
        return {
            "verdict": VERDICTS.get(after["state"], "hold"),
            "reason": judgement["reason"],
            "message": judgement["sentence"],
            "requests": counts.get("requests", 0),
            "matured": counts.get("matured", 0),
            "checks": judgement["checks"],
        }


def app_of(judged: Judged, token: str) -> Starlette:
    """The ASGI app: `/judge` beside the control server's `/labels` and `/status`."""

    async def judge(request: Request) -> JSONResponse:
        words = request.query_params
        try:
            found = await run_in_threadpool(judged.judge, words.get("champion", ""), words.get("challenger", ""))
        except UserError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(found)

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"ok": True})

    control = create_app(judged, WallClock(), judged.take_labels, token)
    return Starlette(routes=[Route("/judge", judge), Route("/livez", alive), Mount("/", control)])


def load_policy(path: Path) -> ReleaseSpec:
    """The `release` block of a Model file, in a file of its own; one shadow stage. UserError names the field."""
    try:
        policy = ReleaseSpec.model_validate(read_yaml(path))
    except ValidationError as error:
        raise describe(error, str(path)) from None
    if [stage.kind for stage in policy.stages] != ["shadow"]:
        raise UserError(f"{path}: stages", [stage.kind for stage in policy.stages], "one shadow stage")
    return policy


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until SIGTERM."""
    parser = argparse.ArgumentParser(prog="tidegate.controller.judged", description="The judge by HTTP.")
    parser.add_argument("--observations", required=True, type=Path, help="folder with predictions/ and labels/")
    parser.add_argument("--policy", required=True, type=Path, help="a release block with one shadow stage, in YAML")
    parser.add_argument("--token-file", required=True, type=Path)
    add_place(parser)
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    return run(
        given, lambda: app_of(Judged(given.observations, load_policy(given.policy)), read_token(given.token_file))
    )


if __name__ == "__main__":
    sys.exit(main())
