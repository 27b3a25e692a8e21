"""/predict by key: what is looked up, what stands in for it, what is refused, what is logged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import SCHEMA, reference_score

from tidegate.errors import UserError
from tidegate.features.asof import AsofView
from tidegate.features.derive import fall_back, fall_back_row, on_demand
from tidegate.features.online import Looked
from tidegate.features.windows import Events, Latest
from tidegate.observations import Prediction, SegmentReader
from tidegate.serve.by_key import KeyLookup, fields_of
from tidegate.serve.loaded import load_model
from tidegate.serve.prediction_log import PredictionLog
from tidegate.serve.request_path import RequestPath
from tidegate.serve.scoring import Identity
from tidegate.train.model_file import FeatureSchema
from tidegate.workload import Fallback, OnDemand, Workload

PLANE = AsofView("plane", ("tailnum",), ("distance",), timedelta(hours=2))
CARRIER = AsofView("of_carrier", ("carrier",), ("carrier_distance",))
EVERY = AsofView("of_all", (), ("all_distance",))
FALLBACK = Fallback("distance", (("plane", "distance"), ("carrier", "carrier_distance"), ("all", "all_distance")))


def doubled(hour: Any) -> dict[str, Any]:
    return {"dep hour": (hour * 2).astype(np.float32)}


def workload(derived: Sequence[OnDemand] = ()) -> Workload:
    def definitions() -> Any:
        return tuple(Latest(view, (Events("t", {}),)) for view in (PLANE, CARRIER, EVERY))

    def unused(*_: Any) -> Any:
        raise AssertionError("not for serving")

    return Workload(
        "w",
        "id",
        None,
        unused,
        definitions,
        unused,
        (),
        "w",
        fallbacks=(FALLBACK,),
        derived=tuple(derived),  # type: ignore[arg-type]
    )


class InMemoryReader:
    """Stands for `OnlineReader`: what is known, by view and key, in a dict."""

    def __init__(self, planes: dict, carriers: dict, every: float | None) -> None:
        self.planes, self.carriers, self.every, self.failures = planes, carriers, every, 0

    def read(self, rows: Sequence[dict], at: float) -> Looked:
        values = [
            {
                "distance": self.planes.get(row["tailnum"]),
                "carrier_distance": self.carriers.get(row["carrier"]),
                "all_distance": self.every,
            }
            for row in rows
        ]
        return Looked(values, [at - 1, at - 2, None])


class Server:
    def __init__(self, model_folder: Path, folder: Path) -> None:
        model = load_model(model_folder)
        reader: Any = InMemoryReader({"N1": 0.5, "N0": None}, {"UA": 2.0}, 4.0)
        self.lookup = KeyLookup(workload(), model.schema, reader)
        self.log = PredictionLog(folder, "v1-a", "v1", model.digest)
        self.folder = folder
        self.app = RequestPath(Identity("flight-delay", "v1", "events"), model, self.log, nothing_else, self.lookup)

    def ask(self, path: str, document: Any = None, method: str = "POST") -> tuple[int, Any]:
        sent: list[dict] = []

        async def receive() -> dict:
            return {"type": "http.request", "body": json.dumps(document).encode()}

        async def send(message: dict) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": [(b"x-request-id", b"abc")]}
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], sent[1]["body"]

    def predict(self, document: Any) -> tuple[int, Any]:
        status, body = self.ask("/predict", document)
        return status, json.loads(body)

    def rows(self) -> list[Prediction]:
        self.log.flush()
        return SegmentReader(self.folder).read()  # type: ignore[return-value]


async def nothing_else(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def server(model_folder: Path, tmp_path: Path) -> Iterator[Server]:
    found = Server(model_folder, tmp_path / "rows")
    yield found
    found.log.close()


def test_a_request_brings_the_join_keys_and_what_no_view_gives() -> None:
    schema = FeatureSchema.parse(json.dumps(SCHEMA))
    found = fields_of(workload(), schema.names)
    assert found.keys == ("tailnum", "carrier")
    assert found.inputs == ("dep hour",)
    derived = OnDemand(("distance",), ("dep hour",), doubled)
    assert fields_of(workload([derived]), schema.names).inputs == ()
    with pytest.raises(UserError, match="on-demand input: got 'wind', takes a model feature"):
        fields_of(workload([OnDemand(("wind",), ("dep hour",), doubled)]), schema.names)


@pytest.mark.parametrize(
    ("tailnum", "carrier", "distance", "level"),
    [
        ("N1", "UA", 0.5, None),
        ("N9", "UA", 2.0, "carrier"),
        (None, "UA", 2.0, "carrier"),
        ("N0", "UA", 2.0, "carrier"),
        ("N9", "ZZ", 4.0, "all"),
    ],
)
def test_an_unseen_key_falls_back_level_by_level_and_the_answer_and_the_log_say_so(
    server: Server, tailnum: str | None, carrier: str, distance: float, level: str | None
) -> None:
    status, answer = server.predict({"keys": [{"tailnum": tailnum, "carrier": carrier, "dep hour": 7}], "at": 5})
    assert status == 200
    (row,) = answer["rows"]
    assert row["score"] == pytest.approx(
        reference_score({"distance": distance, "carrier": carrier, "dep hour": 7}), abs=1e-5
    )
    assert row.get("fallback") == level
    assert ("fallback" in row) == (level is not None)
    (logged,) = server.rows()
    assert logged.features == [distance, carrier, 7.0]
    assert logged.keys == {"tailnum": tailnum, "carrier": carrier}
    assert logged.known == [4.0, 3.0, None]
    assert (logged.fallback, logged.score, logged.time) == (level, row["score"], 5.0)


def test_several_keys_are_several_rows_in_the_order_asked(server: Server) -> None:
    asked = [{"tailnum": name, "carrier": "UA", "dep hour": 1} for name in ("N1", "N9", "N1")]
    _, answer = server.predict({"keys": asked, "at": 5})
    assert [row.get("fallback") for row in answer["rows"]] == [None, "carrier", None]
    assert [row.request_id for row in server.rows()] == ["abc/0", "abc/1", "abc/2"]


def test_rows_are_answered_as_before_and_logged_without_keys(server: Server) -> None:
    status, answer = server.predict({"rows": [{"distance": 0.5, "carrier": "UA", "dep hour": 7}], "at": 5})
    assert status == 200
    assert answer["rows"][0].keys() == {"score"}
    (logged,) = server.rows()
    assert (logged.keys, logged.known, logged.fallback) == (None, None, None)


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"keys": [{"tailnum": "N1"}], "at": 5}, "keys[0].carrier: got None, takes a value; it is required"),
        (
            {"keys": [{"tailnum": "N1", "carrier": "UA", "distance": 1}], "at": 5},
            "keys[0]: field: got 'distance', takes one of tailnum, carrier, dep hour",
        ),
        (
            {"keys": [{"tailnum": 1.5, "carrier": "UA"}], "at": 5},
            "keys[0].tailnum: got 'float', takes int | str | null",
        ),
        ({"keys": [{"tailnum": "N1", "carrier": 7}], "at": 5}, "keys[0].carrier: got 'int', takes str | null"),
        ({"keys": [], "at": 5}, "keys: got 'a value out of range', takes array of length >= 1"),
        ({"at": 5}, "body: got 'neither', takes rows (features) or keys (entities), one of the two"),
        (
            {"rows": [{}], "keys": [{"tailnum": "N1", "carrier": "UA"}], "at": 5},
            "body: got 'both', takes rows (features) or keys (entities), one of the two",
        ),
        ({"rows": [{"tailnum": "N1"}], "at": 5}, "rows[0]: field: got 'tailnum', takes one of distance, carrier"),
    ],
)
def test_a_bad_request_is_one_clear_400_and_not_logged(server: Server, document: Any, line: str) -> None:
    status, answer = server.predict(document)
    assert status == 400
    assert answer["error"].startswith(line)
    assert server.rows() == []


def test_a_service_that_was_told_of_no_workload_takes_no_keys(model_folder: Path, tmp_path: Path) -> None:
    plain = Server(model_folder, tmp_path)
    plain.app = RequestPath(Identity("m", "v1", "events"), load_model(model_folder), plain.log, nothing_else)
    status, answer = plain.predict({"keys": [{"tailnum": "N1"}], "at": 5})
    assert (status, answer["error"]) == (400, "body: field: got 'keys', takes the fields of the contract")
    plain.log.close()


def test_the_document_tells_of_keys_and_of_the_level(server: Server) -> None:
    document = json.loads(server.ask("/openapi.json", method="GET")[1])
    parts = document["components"]["schemas"]
    assert parts["Entity"]["required"] == ["tailnum", "carrier"]
    assert set(parts["Entity"]["properties"]) == {"tailnum", "carrier", "dep hour"}
    assert {"rows", "keys", "at"} == set(parts["PredictRequest"]["properties"])
    assert set(parts["LookedUpRow"]["properties"]) == {"score", "fallback"}


def test_views_that_could_not_be_read_are_counted_in_the_metrics(server: Server) -> None:
    server.lookup.reader.failures = 3
    _, body = server.ask("/metrics", method="GET")
    assert 'tidegate_online_failures_total{service_name="flight-delay",service_version="v1"} 3' in body.decode()


FALLBACKS = (FALLBACK, Fallback("speed", (("plane", "speed"), ("all", "all_speed"))))
COLUMNS = ("distance", "carrier_distance", "all_distance", "speed", "all_speed")
VALUES = st.none() | st.floats(width=32, allow_nan=False)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)), min_size=1, max_size=8))
def test_value_by_value_falls_back_as_over_a_frame(rows: list[dict]) -> None:
    frame = fall_back(pl.DataFrame(rows, dict.fromkeys(COLUMNS, pl.Float32)), FALLBACKS)
    levels = [fall_back_row(row, FALLBACKS) for row in rows]
    for row, expected in zip(rows, frame.iter_rows(named=True), strict=True):
        assert {name: row[name] for name in expected} == expected
    for row, level in zip(frame.iter_rows(named=True), levels, strict=True):
        assert level in (None, "carrier", "all")
        assert level is None or row["distance"] is not None or row["speed"] is not None


@given(st.lists(st.none() | st.floats(-1000, 1000, width=32), min_size=1, max_size=8))
def test_on_demand_features_are_bit_equal_to_those_over_a_frame(hours: list[float | None]) -> None:
    derived = OnDemand(("distance",), ("dep hour",), doubled)
    schema = FeatureSchema.parse(json.dumps(SCHEMA))
    planes = {f"N{index}": hour for index, hour in enumerate(hours)}
    reader: Any = InMemoryReader(planes, {}, None)
    lookup = KeyLookup(workload([derived]), schema, reader)
    found = lookup.look_up([{"tailnum": name, "carrier": None} for name in planes], 5.0)
    frame = on_demand(pl.DataFrame({"distance": pl.Series(hours, dtype=pl.Float32)}), [derived])
    served = np.array([row[2] for row in found.rows], np.float32)
    expected = frame["dep hour"].fill_null(float("nan")).to_numpy()
    np.testing.assert_array_equal(
        served.view(np.uint32)[~np.isnan(served)], expected.view(np.uint32)[~np.isnan(expected)]
    )
    np.testing.assert_array_equal(np.isnan(served), np.isnan(expected))
