from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import Server, server
from tiny_models import ROW, reference_score

from tidegate.observations import SegmentReader
from tidegate.serve.http import LARGEST_BODY

GATEWAY = {
    "x-request-id": "abc",
    "x-tidegate-arm": "v2",
    "x-tidegate-propensity": "0.25",
    "x-tidegate-release": "r7",
    "x-tidegate-other": "not read",
}


@pytest.fixture
def events(model_folder: Path, tmp_path: Path) -> Iterator[Server]:
    found = server(model_folder, tmp_path / "rows")
    yield found
    found.app.scorer.log.close()


@pytest.fixture
def wall(model_folder: Path, tmp_path: Path) -> Iterator[Server]:
    found = server(model_folder, tmp_path / "rows", "wall")
    yield found
    found.app.scorer.log.close()


def test_an_answer_holds_a_score_a_row_and_says_who_answered(events: Server) -> None:
    rows = [ROW, {"distance": 2.0}]
    status, headers, body = events.ask("/predict", json.dumps({"rows": rows, "at": 5}).encode())
    answer = json.loads(body)
    assert status == 200
    assert [row["score"] for row in answer["rows"]] == pytest.approx([reference_score(row) for row in rows], abs=1e-5)
    assert answer["model"] == headers["x-tidegate-model"] == "flight-delay@v1"
    assert headers["x-tidegate-digest"].startswith("sha256:")
    assert headers["x-request-id"]
    assert int(headers["content-length"]) == len(body)


def test_every_row_is_logged_with_the_gateways_headers(events: Server) -> None:
    body = json.dumps({"rows": [ROW, {"carrier": "ZZ"}], "at": 5}).encode()
    _, headers, answer = events.ask("/predict", body, headers=GATEWAY)
    first, second = events.rows()
    assert (first.request_id, second.request_id) == ("abc/0", "abc/1")
    assert (first.arm, first.propensity, first.release) == ("v2", 0.25, "r7")
    assert (first.version, first.digest, first.time) == ("v1", headers["x-tidegate-digest"], 5.0)
    assert [first.score, second.score] == [row["score"] for row in json.loads(answer)["rows"]]
    assert first.features == [0.5, "UA", 7.0]
    assert second.features == [None, "ZZ", None]
    assert first.latency_ms > 0


def test_round_the_gateway_there_is_no_arm_and_an_id_is_made(events: Server) -> None:
    _, headers, _ = events.ask("/predict", b'{"rows":[{}],"at":5}', headers={"x-request-id": "bad id\x7f"})
    (row,) = events.rows()
    assert (row.arm, row.propensity, row.release) == (None, None, None)
    assert row.request_id == headers["x-request-id"] + "/0" != "bad id\x7f/0"


@pytest.mark.parametrize("propensity", ["nan", "0", "1.5", "-1", "x", ""])
def test_a_propensity_that_is_none_is_not_taken(events: Server, propensity: str) -> None:
    events.ask("/predict", b'{"rows":[{}],"at":5}', headers={"x-tidegate-propensity": propensity})
    assert events.rows()[0].propensity is None


def test_a_model_that_fails_is_500_and_logged_as_an_error(events: Server) -> None:
    status, _, body = events.ask("/predict", b'{"rows":[{"distance":-1},{}],"at":5}', headers=GATEWAY)
    assert status == 500
    assert json.loads(body)["error"].startswith("model failed")
    assert [(row.error, row.score) for row in events.rows()] == [(True, None), (True, None)]


def test_bad_input_is_400_and_not_logged(events: Server) -> None:
    status, headers, body = events.ask("/predict", b'{"rows":[{"wrong":1}],"at":5}')
    assert (status, headers["x-tidegate-model"]) == (400, "flight-delay@v1")
    assert "wrong" in json.loads(body)["error"]
    assert events.rows() == []


@pytest.mark.parametrize("cuts", [1, 7])
def test_a_body_over_the_limit_is_413_and_the_connection_closes(events: Server, cuts: int) -> None:
    status, headers, _ = events.ask("/predict", b" " * (LARGEST_BODY + 1), cuts=cuts)
    assert (status, headers["connection"]) == (413, "close")


def test_another_method_is_405(events: Server) -> None:
    assert events.ask("/predict", method="GET")[0] == 405


def test_on_the_event_clock_a_request_without_a_time_has_the_last_announced(events: Server) -> None:
    assert events.ask("/predict", b'{"rows":[{}]}')[0] == 400
    token = {"authorization": "Bearer secret"}
    assert json.loads(events.ask("/clock", b'{"now":100}', headers=token)[2]) == {"now": 100.0, "rows": 0}
    assert events.ask("/predict", b'{"rows":[{}]}')[0] == 200
    assert json.loads(events.ask("/clock", b'{"now":90}', headers=token)[2]) == {"now": 100.0, "rows": 1}
    reader = SegmentReader(events.folder)
    assert [row.time for row in reader.read()] == [100.0]
    assert reader.watermark == 100.0


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}])
def test_the_clock_needs_the_token(events: Server, headers: dict) -> None:
    assert events.ask("/clock", b'{"now":100}', headers=headers)[0] == 401


@pytest.mark.parametrize("body", [b"", b"{}", b'{"now":"x"}', b'{"now":1e300}', b'{"now":1,"more":2}'])
def test_a_bad_announcement_is_400(events: Server, body: bytes) -> None:
    assert events.ask("/clock", body, headers={"authorization": "Bearer secret"})[0] == 400


def test_under_the_wall_clock_at_is_ignored_and_the_clock_refused(wall: Server) -> None:
    wall.ask("/predict", b'{"rows":[{}],"at":5}')
    assert wall.rows()[0].time > 1e9
    assert wall.ask("/clock", b'{"now":100}', headers={"authorization": "Bearer secret"})[0] == 409


def test_everything_else_is_the_inner_apps_with_our_headers(events: Server) -> None:
    status, headers, body = events.ask("/else", method="GET", headers={"x-request-id": "abc"})
    assert (status, body, headers["content-type"]) == (404, b"inner", "text/plain")
    assert (headers["x-tidegate-model"], headers["x-request-id"]) == ("flight-delay@v1", "abc")


def test_the_document_describes_the_features(events: Server) -> None:
    document = json.loads(events.ask("/openapi.json", method="GET")[2])
    row = document["components"]["schemas"]["Row"]
    assert set(row["properties"]) == {"distance", "carrier", "dep hour"}
    assert row["additionalProperties"] is False


def test_answers_are_counted_under_bentomls_names(events: Server) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    events.ask("/predict", b'{"rows":[{}],"at":5}')
    events.ask("/predict", b"{}")
    families = {f.name: f for f in text_string_to_metric_families(events.ask("/metrics", method="GET")[2].decode())}
    totals = {
        (s.labels["endpoint"], s.labels["http_response_code"]): s.value
        for s in families["bentoml_service_request"].samples
    }
    assert totals == {("/predict", "200"): 1, ("/predict", "400"): 1}
    assert families["tidegate_prediction_log_rows"].samples[0].value == 1
    counts = [s for s in families["bentoml_service_request_duration_seconds"].samples if s.name.endswith("_count")]
    assert [s.value for s in counts] == [1, 1]


def in_flight(events: Server) -> str:
    text = events.ask("/metrics", method="GET")[2].decode()
    return next(line for line in text.splitlines() if line.startswith("tidegate_requests_in_flight{")).split()[-1]


def test_requests_in_flight_are_those_that_have_no_answer_yet(events: Server) -> None:
    async def ask() -> tuple[str, str]:
        body, read = asyncio.Event(), asyncio.Event()

        async def slow() -> dict:
            read.set()
            await body.wait()
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        one = asyncio.create_task(events.app(scope, slow, None))
        await read.wait()
        during = await asyncio.to_thread(in_flight, events)
        body.set()
        await one
        return during, await asyncio.to_thread(in_flight, events)

    assert asyncio.run(ask()) == ("1", "0")


def test_our_counts_replace_what_bentoml_started_at_zero(events: Server) -> None:
    events.ask("/predict", b'{"rows":[{}],"at":5}')
    theirs = (
        "# HELP bentoml_service_request_total Total\n# TYPE bentoml_service_request_total counter\n"
        'bentoml_service_request_total{endpoint="/predict",http_response_code="200"} 0.0\n'
        'bentoml_service_request_total{endpoint="/docs.json",http_response_code="200"} 3.0\n'
    )
    text = events.app.metrics.text(theirs)
    assert text.count("# TYPE bentoml_service_request_total counter") == 1
    assert 'endpoint="/predict",http_response_code="200"} 0.0' not in text
    assert 'endpoint="/docs.json"' in text
