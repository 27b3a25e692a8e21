"""The judge by HTTP: the verdict on a shadow's copies, told apart by version alone."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import httpx
import pytest

from tidegate.controller.judged import Judged, app_of, load_policy
from tidegate.errors import UserError
from tidegate.observations import Prediction, SegmentWriter
from tidegate.spec import ReleaseSpec

NOW = 1_700_000_000.0
POLICY = ReleaseSpec.model_validate({
    "minDuration": "0s", "block": None, "labelDeadline": "10s", "stages": [{"shadow": {"requests": 200}}],
    "judge": {"loss": {"margin": 0.05}, "errors": {"margin": "5%"}},
})  # fmt: skip


def write(folder: Path, version: str, scores: list[float], failed: float = 0.0, start: float = NOW) -> None:
    chance = random.Random(version)
    writer = SegmentWriter(folder / "predictions", version, background=False)
    for number, score in enumerate(scores):
        writer.append(Prediction(
            request_id=f"r{number}/0", time=start + number / 100, wall=start, version=version, digest=version, arm=None,
            propensity=None, release=None, score=score, error=chance.random() < failed, latency_ms=1.0, features=[],
        ))  # fmt: skip
    writer.close()


def judged(folder: Path, after: float = 60.0) -> Judged:
    return Judged(folder, POLICY, now=lambda: NOW + after)


def label(judge: Judged, count: int) -> None:
    """Every flight was late."""
    for start in range(0, count, 500):
        some = [
            {"request_id": f"r{n}", "value": 1, "outcome": "observed", "time": NOW} for n in range(start, start + 500)
        ]
        assert judge.take_labels(json.dumps({"labels": some}).encode())["accepted"] == 500


def test_copies_that_are_as_good_are_promoted_when_they_are_enough(tmp_path):
    write(tmp_path, "old", [0.6] * 2000)
    write(tmp_path, "new", [0.61] * 2000)
    judge = judged(tmp_path)
    label(judge, 2000)
    found = judge.judge("old", "new")
    assert (found["verdict"], found["requests"], found["matured"]) == ("promote", 2000, 2000)


def test_copies_that_are_proved_worse_are_aborted(tmp_path):
    write(tmp_path, "old", [0.9] * 2000)
    write(tmp_path, "new", [0.3] * 2000)
    judge = judged(tmp_path)
    label(judge, 2000)
    assert judge.judge("old", "new")["verdict"] == "abort"
    # whoever fails is worse without any label
    write(tmp_path, "broken", [0.9] * 2000, failed=0.5)
    assert judge.judge("old", "broken")["verdict"] == "abort"


def test_without_copies_labels_or_enough_of_them_it_is_a_hold(tmp_path):
    write(tmp_path, "old", [0.6] * 2000)
    assert judged(tmp_path).judge("old", "new")["reason"] == "no_evidence"
    few = tmp_path / "few"
    for version in ("old", "new"):
        write(few, version, [0.6] * 150)
    assert judged(few).judge("old", "new")["reason"] == "too_little_evidence"
    unlabelled = tmp_path / "other"
    write(unlabelled, "old", [0.6] * 2000)
    write(unlabelled, "new", [0.6] * 2000)
    assert judged(unlabelled).judge("old", "new")["verdict"] == "hold"


def test_copies_that_are_never_answered_are_errors_of_the_new_one(tmp_path):
    write(tmp_path, "old", [0.6] * 2000)
    write(tmp_path, "new", [0.6] * 100)
    found = judged(tmp_path).judge("old", "new")
    assert (found["verdict"], found["checks"]["errors"]["lower"] > 0.5) == ("abort", True)


def test_what_the_old_one_answered_before_the_first_copy_is_no_missing_copy(tmp_path):
    write(tmp_path, "old", [0.6] * 2000, start=NOW - 3600)
    write(tmp_path, "old2", [0.6] * 300)
    write(tmp_path, "new", [0.6] * 300)
    assert judged(tmp_path).judge("old2", "new")["requests"] == 300


def test_a_new_start_says_the_same(tmp_path):
    write(tmp_path, "old", [0.6] * 2000)
    write(tmp_path, "new", [0.61] * 2000)
    first = judged(tmp_path)
    label(first, 2000)
    assert judged(tmp_path).judge("old", "new") == first.judge("old", "new")


def test_over_http_one_asks_freely_and_tells_labels_with_the_token(tmp_path):
    write(tmp_path, "old", [0.6] * 500)
    write(tmp_path, "new", [0.6] * 500)
    app = app_of(judged(tmp_path), "secret")

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://judge") as client:
            body = {"labels": [{"request_id": "r0", "value": 1, "outcome": "observed", "time": NOW}]}
            return [
                await client.get("/judge", params={"champion": "old", "challenger": "new"}),
                await client.get("/judge", params={"champion": "old", "challenger": "old"}),
                await client.post("/labels", json=body),
                await client.post("/labels", json=body, headers={"authorization": "Bearer secret"}),
                await client.get("/status"),
                await client.get("/livez"),
            ]

    judge, wrong, refused, taken, status, alive = asyncio.run(ask())
    assert judge.json()["verdict"] == "hold"
    assert (wrong.status_code, refused.status_code, taken.json()["accepted"]) == (400, 401, 1)
    assert status.json() == {"rows": {"old": 500, "new": 500}, "labels": 1}
    assert alive.status_code == 200


def test_a_policy_is_one_shadow_stage(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("stages: [{canary: {weights: [5%]}}]\n")
    with pytest.raises(UserError, match="one shadow stage"):
        load_policy(path)
    path.write_text("stages: [{shadow: {request: 1}}]\n")
    with pytest.raises(UserError, match="request"):
        load_policy(path)
