"""Requests of many rows are answered and logged as row by row: plain code, one row at a time, is the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from asked import Server, server
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SCHEMA

from tidegate.errors import UserError
from tidegate.observations import Prediction, SegmentReader
from tidegate.register.answered import answered
from tidegate.serve.by_key import Found
from tidegate.serve.prediction_log import Heard, PredictionLog
from tidegate.serve.rows import RowMaker
from tidegate.train.model_file import FeatureSchema

TINY = FeatureSchema.parse(json.dumps(SCHEMA))
CARRIERS = [None, "AA", "UA"]
NUMBER = st.none() | st.floats(0, 1e6) | st.integers(0, 2**40) | st.just(-0.0)
ROW = st.fixed_dictionaries(
    {}, optional={"distance": NUMBER, "carrier": st.sampled_from([*CARRIERS, "ZZ", "é"]), "dep hour": NUMBER}
)
ROWS = st.lists(ROW, min_size=1, max_size=12)
HEADERS = st.sampled_from(
    [
        {"x-request-id": "q"},
        {
            "x-request-id": "q", "x-tidegate-arm": "v2", "x-tidegate-propensity": "0.25", "x-tidegate-release": "r1",
            "x-tidegate-weights": "v1=0.75", "x-tidegate-region": "east", "x-tidegate-returning": "1",
        },
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def service(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = server(model_folder, tmp_path_factory.mktemp("rows"))
    yield found
    found.app.scorer.log.close()


@dataclass
class Naive:
    """Scores one row at a time and makes one row of the log of each."""

    service: Server

    def score(self, row: dict[str, Any]) -> float:
        (score,) = self.service.app.scorer.model.score(TINY.encode([row]))
        return score

    def logged(self, rows: list[dict[str, Any]], headers: dict[str, str], at: float, endpoint: str | None) -> list[Any]:
        who, told = self.service.app.scorer, {key.removeprefix("x-tidegate-"): text for key, text in headers.items()}
        return [
            Prediction(
                f"{headers['x-request-id']}/{number}", at, 0.0, "v1", who.model.digest, told.get("arm"),
                float(told["propensity"]) if "propensity" in told else None, told.get("release"), self.score(row),
                False, 0.0, [plain(row.get(name)) for name in TINY.names], endpoint=endpoint,
                weights=told.get("weights"), region=told.get("region"), returning="returning" in told,
            )
            for number, row in enumerate(rows)
        ]  # fmt: skip


def plain(value: Any) -> float | str | None:
    return float(value) if isinstance(value, int) else value


def without_times(rows: list[Any]) -> list[bytes]:
    """As bytes, so that -0.0 is not 0.0; when and how fast each was answered differs from run to run."""
    return [msgspec.json.encode(msgspec.structs.replace(row, wall=0.0, latency_ms=0.0)) for row in rows]


@given(ROWS, HEADERS, st.sampled_from(["/predict", "/rank"]))
@settings(max_examples=60, deadline=None)
def test_rows_are_answered_and_logged_as_one_by_one(service: Server, rows: list, headers: dict, path: str) -> None:
    before, naive = len(service.rows()), Naive(service)
    status, _, answer = service.ask(path, json.dumps({"rows": rows, "at": 12.5}).encode(), headers=headers)
    assert status == 200
    assert [row["score"] for row in json.loads(answer)["rows"]] == [naive.score(row) for row in rows]
    expected = naive.logged(rows, headers, 12.5, "rank" if path == "/rank" else None)
    assert without_times(service.rows()[before:]) == without_times(expected)


@given(ROWS, HEADERS, st.sampled_from(["columns", "flat", "nested"]))
@settings(max_examples=60, deadline=None)
def test_tensors_are_answered_and_logged_as_one_by_one(service: Server, rows: list, headers: dict, form: str) -> None:
    service.app.scorer.announced = 12.5
    before, naive = len(service.rows()), Naive(service)
    known = rows if form == "columns" else [{**row, "carrier": of_code(code(row))} for row in rows]
    body = json.dumps({"inputs": tensors(rows, form)}).encode()
    status, _, answer = service.ask("/v2/models/flight-delay/infer", body, headers=headers)
    assert status == 200
    assert json.loads(answer)["outputs"][0]["data"] == [naive.score(row) for row in rows]
    assert without_times(service.rows()[before:]) == without_times(naive.logged(known, headers, 12.5, None))


def tensors(rows: list[dict[str, Any]], form: str) -> list[dict[str, Any]]:
    if form == "columns":
        kinds = {"distance": "FP64", "carrier": "BYTES", "dep hour": "FP64"}
        return [
            {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row.get(name) for row in rows]}
            for name, kind in kinds.items()
        ]
    coded = [[row.get("distance"), code(row), row.get("dep hour")] for row in rows]
    data: list[Any] = coded if form == "nested" else [value for row in coded for value in row]
    return [{"name": "features", "shape": [len(rows), 3], "datatype": "FP64", "data": data}]


def code(row: dict[str, Any]) -> int | None:
    """Null where the category is, else the code of its text."""
    carrier = row.get("carrier")
    return None if carrier is None else (CARRIERS.index(carrier) if carrier in CARRIERS else 0)


def of_code(code: int | None) -> str | None:
    return CARRIERS[code or 0]


ODD = [0.5, -1.0, 3.0, 2.0**31, 2.0**52, 2.0**52 + 1, 2.0**53, 2.0**63, 2.0**64 + 2**12, -(2.0**52), 1e300, 1e-300]
CODES = st.sampled_from([0.0, -0.0, 1.0, 2.0]) | st.sampled_from(ODD) | st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(CODES, min_size=1, max_size=60), st.booleans())
@settings(max_examples=200, deadline=None)
def test_codes_of_many_numbers_are_those_of_single_ones(codes: list[float], few: bool) -> None:
    codes = [code for code in codes if code in (0, 1, 2)] or [0.0] if few else codes
    numbers = [value for number, code in enumerate(codes) for value in (float(number), code, -1.5)]
    try:
        wanted: Any = RowMaker(TINY).of_codes(list(numbers), "data").lists()
    except UserError as error:
        wanted = str(error)
    try:
        found: Any = RowMaker(TINY).of_codes(np.array(numbers), "data").lists()
    except UserError as error:
        found = str(error)
    assert found == wanted


LEVEL = st.sampled_from([None, "carrier", "all"])
VALUES = st.lists(
    st.tuples(st.none() | st.floats(-1e9, 1e9), st.sampled_from([*CARRIERS, "ZZ"]), NUMBER).map(list),
    min_size=1,
    max_size=8,
)


@given(VALUES, st.data(), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_log_gives_back_each_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list, data: st.DataObject, by_key: bool, retain: bool, failed: bool
) -> None:
    levels = data.draw(st.lists(LEVEL, min_size=len(rows), max_size=len(rows)))
    found = Found(rows, [{"tail": f"N{n}"} for n in range(len(rows))], [7.0, None], levels) if by_key else None
    folder, scores = tmp_path_factory.mktemp("log"), [n / 16 for n in range(len(rows))]
    log = PredictionLog(folder, "w", "v1", "sha256:a", retain)
    given = None if failed else scores
    log.record(Heard("q", "r1", "v1", 0.5), 5.0, RowMaker(TINY).of_lists(rows), given, 2.0, found, "explain")
    assert log.rows == len(rows)
    log.close()
    kept = found if retain else None
    expected = [
        Prediction(
            f"q/{n}", 5.0, 0.0, "v1", "sha256:a", "v1", 0.5, "r1", None if failed else scores[n], failed, 0.0,
            [plain(value) for value in rows[n]] if retain else [], kept.keys[n] if kept else None,
            kept.known if kept else None, kept.fallbacks[n] if kept else None, "explain",
        )
        for n in range(len(rows))
    ]  # fmt: skip
    assert without_times(SegmentReader(folder).read()) == without_times(expected)
    assert [(one.request_id, one.score) for one in answered(folder, "q").rows] == [
        (one.request_id, one.score) for one in expected
    ]
