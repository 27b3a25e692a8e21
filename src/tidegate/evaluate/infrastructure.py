"""Does the service itself load the files and answer as the trained model did? Does I/O: it starts one, and ends it.

It is the process that a target starts (``python -m tidegate.serve.service``), in a scratch folder, asked over HTTP. It
starts while the step measures; what is asked waits in its socket until it is ready.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.evaluate.metrics import Floats
from tidegate.train.model_file import FeatureSchema

if TYPE_CHECKING:
    import polars as pl

ASKED, TOGETHER = 512, 32
"""Rows of the gate window that are asked about, and rows of one request."""
SECONDS = 60.0
"""Longest wait for an answer, the first one's start included; an end of the process is seen at once."""
STOPPING = 10.0
"""Seconds between SIGTERM and SIGKILL."""

Row = Mapping[str, Any]
Questions = tuple[Sequence[Row], Sequence[float]]
"""Rows, and the score wanted of each."""


class Service:
    """One serving process that is starting or ready; `answers` asks it."""

    def __init__(self, port: int, digest: str) -> None:
        self._connection, self._digest = HTTPConnection("127.0.0.1", port, timeout=SECONDS), digest
        self.spent = 0.0
        """Seconds for which whoever asks waited for its answers and its end."""

    def answers(self, asked: Mapping[str, Questions]) -> dict[str, Any]:
        """``{name: {"rows", "distance"}, ..., "error"}``: the farthest that a score is from the one wanted.

        `error` is empty, or says in words why a distance is None.
        """
        with self.timed():
            return self._answers(asked)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the block as spent on the service."""
        began = time.perf_counter()
        yield
        self.spent += time.perf_counter() - began

    def _answers(self, asked: Mapping[str, Questions]) -> dict[str, Any]:
        found: dict[str, Any] = {name: {"rows": len(rows), "distance": None} for name, (rows, _) in asked.items()}
        try:
            for name, (rows, wanted) in asked.items():
                found[name]["distance"] = _distance(self._scores(rows), wanted)
        except _WrongAnswerError as error:
            return {**found, "error": str(error)}
        except (OSError, HTTPException):
            return {**found, "error": "the service ended or did not answer"}
        return {**found, "error": ""}

    def _scores(self, rows: Sequence[Row]) -> list[float]:
        parts = (self._predict(rows[first : first + TOGETHER]) for first in range(0, len(rows), TOGETHER))
        return [score for part in parts for score in part]

    def _predict(self, rows: Sequence[Row]) -> list[float]:
        self._connection.request("POST", "/predict", json.dumps({"rows": rows}))
        answer = self._connection.getresponse()
        body, digest = answer.read(), answer.headers.get("x-tidegate-digest")
        if answer.status != 200:
            raise _WrongAnswerError(f"the service answered with status {answer.status}")
        if digest != self._digest:
            raise _WrongAnswerError(f"the service answered for {digest}")
        scores = [float(row["score"]) for row in json.loads(body)["rows"]]
        if len(scores) != len(rows):
            raise _WrongAnswerError(f"the service gave {len(scores)} scores for {len(rows)} rows")
        return scores


class _WrongAnswerError(Exception):
    pass


@contextmanager
def served(model: Path, digest: str, retain: bool) -> Iterator[Service]:
    """Start serving `model`; whatever happens, the process has ended and its folder is gone behind the block.

    It stays in the session of whoever asks, so that a run that is killed takes it along.
    """
    with tempfile.TemporaryDirectory(prefix="tidegate-service-") as scratch:
        process, port = _start(model, digest, Path(scratch), retain)
        service = Service(port, digest)
        try:
            yield service
        finally:
            with service.timed():
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start(model: Path, digest: str, scratch: Path, retain: bool) -> tuple[subprocess.Popen[bytes], int]:
    """The process and its port. Only the process holds the socket, so its end is an end of the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = [
            sys.executable, "-m", "tidegate.serve.service", "--model-dir", str(model), "--digest", digest,
            "--name", "gate", "--version", "v0", "--observations", str(scratch / "predictions"),
            "--fd", str(listening.fileno()), *(() if retain else ("--no-features",)),
        ]  # fmt: skip
        kept = (listening.fileno(),)
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=kept)
        return process, int(listening.getsockname()[1])


def sampled(rows: pl.DataFrame, schema: FeatureSchema, scores: Floats) -> Questions:
    """Evenly spaced rows as a client sends them, each with its score of `scores`."""
    import polars as pl

    if not rows.height:
        return [], []
    chosen = np.linspace(0, rows.height - 1, min(ASKED, rows.height)).astype(int)
    sent = {"numeric": pl.Float64, "category": pl.String}
    columns = [pl.col(one.name).cast(sent[one.kind]) for one in schema.features]
    told = rows[chosen].select(columns).with_columns(pl.selectors.float().fill_nan(None)).to_dicts()
    return told, scores[chosen].tolist()


def reference(model: Path) -> Questions:
    """The reference rows of a model folder, with the trained model's scores."""
    found = json.loads((model / "reference.json").read_text(encoding="utf-8"))
    return found["rows"], found["scores"]


def _distance(scores: Sequence[float], wanted: Sequence[float]) -> float:
    return max((abs(a - b) for a, b in zip(scores, wanted, strict=True)), default=0.0)
