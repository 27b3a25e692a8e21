"""The prediction service beside its peers: one pinned core, the same ONNX model and questions, one run.

Ours is started by ``bentoml serve`` from a Bento that is built here, prediction log on. Whoever is asked has the first
core alone, the client the others; all must answer the same scores before they are measured. Latencies at 70 % of a
server's own maximum are by the clock: a request is sent when it is due, whatever the answers do. They are asked in
turn, round after round: a machine that is slow for a while is slow for all of them. The middle round counts.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import servers
from benchmarks.load import Most, features, maximum, steady, vegeta
from benchmarks.online import UNTIL, WORKLOAD, prepare
from benchmarks.replica import NAME, _cores, pinned
from benchmarks.results import CACHE, Result, say
from benchmarks.servers import PEERS, Server
from benchmarks.serving_table import (
    BY_KEY,
    CLOSED,
    FASTAPI,
    MLSERVER,
    OPEN,
    OURS,
    OURS_V2,
    RATE,
    ROUNDS,
    SHARE,
    Line,
    told,
)
from tidegate.serve.loaded import LoadedModel, load_model, onnx_runner
from tidegate.targets.gatewayd import http
from tidegate.traffic.openloop import Results
from tidegate.train.model_file import folder_name

SIZES, QUESTIONS, WARM = (1, 10, 100), 3000, 1.0
Rows = list[dict[str, Any]]
Body = Callable[[Rows], bytes]
Scores = Callable[[Any], list[float]]


@dataclass(frozen=True)
class Kind:
    """One way to ask: name, path, how rows become a body, where an answer has the scores."""

    name: str
    path: str
    body: Body
    scores: Scores


@dataclass(frozen=True)
class Way:
    """One server asked in one way with requests of one size; `rate` None: `SHARE` of its most, by the clock."""

    server: Server
    name: str
    path: str
    rows: int
    bodies: Sequence[bytes]
    rate: float | None = None


def run() -> Result:
    """Prepare, then measure."""
    with tempfile.TemporaryDirectory(prefix="tidegate-serving-") as made:
        folder = Path(made)
        digest, entities = prepare(folder / "state")
        bench = Bench(folder, folder / "state/models" / folder_name(digest))
        lines, commands = bench.measured()
        keyed, command = bench.by_key(entities)
        return told([*lines, *keyed], bench.bare(), {**commands, "tidegate by key": command}, bench.release)


class Bench:
    """What every measurement needs: questions, tools, the Bento."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder, self._model, self._loaded = folder, model, load_model(model)
        self._core, self._others = _cores()
        say("serving: peers' environment, Bento and client are made (not counted)")
        self._peers, self._vegeta = servers.peers(), vegeta(CACHE)
        self._tag, self._home = servers.built(folder / "bentoml")
        names = self._loaded.schema.names
        self._asked = [row for row in features(2 * QUESTIONS) if None not in row.values()][:QUESTIONS]
        assert set(self._asked[0]) == set(names)
        versions = "import importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in "
        versions += "('mlserver', 'bentoml', 'fastapi', 'uvicorn', 'onnxruntime')), sep=', ')"
        self.release = subprocess.run(
            (self._peers / "python", "-c", versions), capture_output=True, text=True, check=True
        ).stdout.strip()

    def measured(self) -> tuple[list[Line], dict[str, str]]:
        """Every server at every size, and their command lines."""
        ways, commands = list[Way](), {}
        with ExitStack() as running:
            for name, start, kinds in self._servers():
                server = running.enter_context(start())
                commands[name] = server.command
                if name == "tidegate":
                    self._asked_by_triton(server)
                ways += [self._way(server, kind, size) for kind in kinds for size in SIZES]
            return self._lines(ways), commands

    def bare(self) -> dict[int, float]:
        """Runs a second of ONNX Runtime alone on the servers' core, by rows a run: no server can answer more."""
        found, run = {}, onnx_runner(self._model / "model.onnx")
        for size in SIZES:
            encoded = self._loaded.schema.encode(self._asked)
            runs = [encoded[at : at + size] for at in range(0, len(encoded), size)]
            with pinned(self._core):
                began = time.perf_counter()
                for rows in runs * 3:
                    run(rows)
                found[size] = 3 * len(runs) / (time.perf_counter() - began)
        return found

    def by_key(self, entities: Rows) -> tuple[list[Line], str]:
        """Our service asked by entity key, features fetched online: at most, at 70 % of it, and at `RATE`."""
        from flights.workload import flight_delay
        from tidegate.features.live import live_repo

        live = live_repo(self._folder / "state", flight_delay, WORKLOAD)
        more = {"workload": WORKLOAD, "online": str(live.online), "project": live.project, "clock": "events"}
        asked = [json.dumps({"keys": [row], "at": UNTIL.timestamp()}).encode() for row in entities]
        rows = self._folder / "rows-by-key"
        with servers.ours(self._tag, self._home, self._model, rows, self._core, **more) as server:
            ways = [Way(server, BY_KEY, "/predict", 1, asked, rate) for rate in (None, RATE)]
            return self._lines(ways), server.command

    def _servers(self) -> Iterator[tuple[str, Callable[[], AbstractContextManager[Server]], Sequence[Kind]]]:
        named, tensor = self._named, partial(matrix_body, self._loaded)
        infer = f"/v2/models/{NAME}/infer"
        mine = partial(servers.ours, self._tag, self._home, self._model, self._folder / "rows", self._core)
        ours = (Kind(OURS, "/predict", named, scores_of_rows), Kind(OURS_V2, infer, tensor, scores_of_v2))
        yield "tidegate", mine, ours
        given = self._peers, self._model, self._folder, self._core
        yield MLSERVER, partial(servers.mlserver, *given), [Kind(MLSERVER, infer, tensor, scores_of_v2)]
        plain = partial(plain_body, self._loaded)
        yield (
            "BentoML, sync API",
            partial(servers.bentoml, *given),
            [Kind("BentoML, sync API", "/predict", plain, list)],
        )
        fast = Kind(FASTAPI, "/predict", named, scores_of_rows)
        yield FASTAPI, partial(servers.fastapi, *given), [fast]

    @staticmethod
    def _named(rows: Rows) -> bytes:
        return json.dumps({"rows": rows}).encode()

    def _way(self, server: Server, kind: Kind, size: int) -> Way:
        batches = [self._asked[at : at + size] for at in range(0, len(self._asked), size)]
        self._same_scores(server, kind, batches[0])
        return Way(server, kind.name, kind.path, size, [kind.body(batch) for batch in batches])

    def _lines(self, ways: Sequence[Way]) -> list[Line]:
        """Rounds of the closed loop, then of the open one: all ways in turn, those of one size together."""
        ways = sorted(ways, key=lambda way: way.rows)
        with pinned(self._others):
            closed = [*zip(*([self._most(way, number) for way in ways] for number in range(ROUNDS)), strict=True)]
            rates = [way.rate or SHARE * median(one.rate for one in own) for way, own in zip(ways, closed, strict=True)]
            asked = [*zip(ways, rates, strict=True)]
            by_clock = zip(*([self._steady(*one, number) for one in asked] for number in range(ROUNDS)), strict=True)
            return [
                Line(way.name, way.rows, own, rate, answered)
                for (way, rate), own, answered in zip(asked, closed, by_clock, strict=True)
            ]

    def _most(self, way: Way, number: int) -> Most:
        say(f"serving: round {number + 1} of {ROUNDS}, the most, {way.name}, {way.rows} rows a request")
        maximum(way.server.port, way.bodies, WARM, self._folder, way.path)
        return maximum(way.server.port, way.bodies, CLOSED, self._folder, way.path)

    def _steady(self, way: Way, rate: float, number: int) -> Results:
        say(f"serving: round {number + 1} of {ROUNDS}, {rate:,.0f}/s, {way.name}, {way.rows} rows a request")
        return steady(self._vegeta, way.server.port, way.bodies, rate, OPEN, self._folder, way.path)

    def _same_scores(self, server: Server, kind: Kind, rows: Rows) -> None:
        """SystemExit unless the server answers what ONNX Runtime itself does."""
        wanted = self._loaded.score(self._loaded.schema.encode(rows))
        status, _, answer = http(server.port, kind.path, "POST", kind.body(rows))
        got = kind.scores(json.loads(answer)) if status == 200 else []
        if len(got) != len(wanted) or max(abs(a - b) for a, b in zip(got, wanted, strict=True)) > 1e-6:
            raise SystemExit(f"serving: {kind.name} answered {status} {answer[:300]!r}, wanted {wanted[:3]}")

    def _asked_by_triton(self, server: Server) -> None:
        """Triton's own client asks our Open Inference Protocol in each of its forms; SystemExit when a score is off."""
        rows, schema = self._asked[:5], self._loaded.schema
        encoded = schema.encode(rows)
        asked = {"columns": {name: [row[name] for row in rows] for name in schema.names}, "matrix": encoded.tolist()}
        file = self._folder / "triton.json"
        file.write_text(json.dumps(asked))
        words = (self._peers / "python", PEERS / "check_v2.py", str(server.port), NAME, str(file))
        told = subprocess.run(words, capture_output=True, text=True, check=False)
        answers = [json.loads(line) for line in told.stdout.splitlines()]
        wanted = self._loaded.score(encoded)
        off = [max(abs(a - b) for a, b in zip(one, wanted, strict=True)) for one in answers]
        if told.returncode or len(off) != 4 or max(off) > 1e-6:
            raise SystemExit(f"serving: triton's client: {told.stdout}{told.stderr}")


def matrix_body(model: LoadedModel, rows: Rows) -> bytes:
    """One tensor of the Open Inference Protocol."""
    encoded = model.schema.encode(rows)
    tensor = {"name": "features", "shape": list(encoded.shape), "datatype": "FP32", "data": encoded.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


def plain_body(model: LoadedModel, rows: Rows) -> bytes:
    """A bare matrix."""
    return json.dumps({"rows": model.schema.encode(rows).tolist()}).encode()


def scores_of_rows(answer: Any) -> list[float]:
    """From ours and FastAPI's."""
    return [row["score"] for row in answer["rows"]]


def scores_of_v2(answer: Any) -> list[float]:
    """From an output tensor."""
    return list(answer["outputs"][0]["data"])
