"""/rank: the order of the scores, rows in the order asked, and no evidence of any release."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import Server, server
from hypothesis import given
from hypothesis import strategies as st

from tidegate.release.logged import rows_from_predictions
from tidegate.serve.request_path import ranks

GATEWAY = {"x-request-id": "abc", "x-tidegate-arm": "v1", "x-tidegate-propensity": "0.5", "x-tidegate-release": "r7"}
ROWS = [{"distance": 3}, {"distance": 1}, {"distance": 2, "carrier": "UA"}, {"distance": 1}]


@pytest.fixture
def events(model_folder: Path, tmp_path: Path) -> Iterator[Server]:
    found = server(model_folder, tmp_path / "rows")
    yield found
    found.app.scorer.log.close()


def test_ranks_are_those_of_predicts_scores_in_the_order_asked(events: Server) -> None:
    body = json.dumps({"rows": ROWS, "at": 5}).encode()
    scores = [row["score"] for row in json.loads(events.ask("/predict", body)[2])["rows"]]
    status, headers, answer = events.ask("/rank", body)
    found = json.loads(answer)
    assert (status, found["model"]) == (200, headers["x-tidegate-model"])
    assert [row["score"] for row in found["rows"]] == scores
    assert [row["rank"] for row in found["rows"]] == [4, 2, 1, 3]


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]) | st.floats(0, 1), max_size=30))
def test_a_rank_counts_the_lower_scores_and_the_equal_ones_before_it(scores: list[float]) -> None:
    naive = [
        1 + sum(other < score for other in scores) + scores[:index].count(score) for index, score in enumerate(scores)
    ]
    assert ranks(scores) == naive


def test_alternatives_are_logged_and_are_no_evidence_of_the_release(events: Server) -> None:
    body = json.dumps({"rows": ROWS, "at": 5}).encode()
    events.ask("/rank", body, headers=GATEWAY)
    events.ask("/predict", body, headers={**GATEWAY, "x-request-id": "def"})
    rows = events.rows()
    assert [row.request_id for row in rows] == [f"{name}/{index}" for name in ("abc", "def") for index in range(4)]
    assert [row.endpoint for row in rows] == ["rank"] * 4 + [None] * 4
    assert {(row.arm, row.propensity, row.release) for row in rows} == {("v1", 0.5, "r7")}
    evidence = rows_from_predictions(rows, "r7", "v1", "v2")
    assert evidence.request_id.tolist() == [f"def/{index}" for index in range(4)]


def test_what_predict_refuses_is_refused(events: Server) -> None:
    assert events.ask("/rank", b'{"rows":[],"at":5}')[0] == 400
    assert events.ask("/rank", method="GET")[0] == 405
