"""What a score is made of: over HTTP from the real service, for every family and way of preparing rows."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import PlatformError
from tidegate.observations import SegmentReader
from tidegate.serve.explain import Explainer, prove
from tidegate.serve.loaded import load_model
from tidegate.serve.rows import RowMaker
from tidegate.serve.scoring import Scored
from tidegate.targets.processes import free_port
from tidegate.train.estimator import Terms
from tidegate.train.estimators import ESTIMATORS
from tidegate.train.forget import LEAST
from tidegate.train.model_file import Feature, FeatureSchema, write_manifest
from tidegate.train.step import train
from tidegate.train.typical import typical_of

ROWS = synthetic.rows(20)


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """The service as it is started everywhere, on a free port."""
    port = free_port()
    words = ("--model-dir", str(folder), "--name", "drawn", "--version", "v1", "--observations", str(log))
    process = subprocess.Popen((sys.executable, "-m", "tidegate.serve.service", *words, "--port", str(port)))
    base = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while not ready(base):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        assert process.wait(30) == 0


def ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def post(url: str, document: object) -> tuple[int, dict]:
    answer = httpx.post(url, json=document, timeout=60)
    return answer.status_code, answer.json()


def asked(count: int) -> list[dict]:
    return ROWS.select([f.name for f in synthetic.drawn.features]).sample(count, seed=3).to_dicts()


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained version of each family, by the train step."""
    made = tmp_path_factory.mktemp("families")
    rows = synthetic.write(ROWS, made / "rows.parquet")
    names = ("lightgbm", "logistic_regression", "hist_gradient_boosting")
    for name in names:
        told = synthetic.settings({"families": (name,)})
        train(rows, synthetic.NAME, synthetic.until(21), told, None, made / name)
    return {name: made / name for name in names}


def odds(score: float) -> float:
    return float(np.log(score / (1 - score)))


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_base_and_contributions_of_1000_rows_are_the_log_odds_of_the_served_score(families, family, tmp_path):
    rows = asked(1000)
    with serving(families[family], tmp_path / "log") as base:
        (status, explained), (_, predicted) = (
            post(f"{base}/explain", {"rows": rows}),
            post(f"{base}/predict", {"rows": rows}),
        )
        assert status == 200, explained
    assert explained["model"] == "drawn@v1"
    assert [row["score"] for row in explained["rows"]] == [row["score"] for row in predicted["rows"]]
    apart = [
        abs(row["base"] + sum(c["contribution"] for c in row["contributions"]) - odds(row["score"]))
        for row in explained["rows"]
    ]
    assert max(apart) < 1e-5
    names = [f.name for f in synthetic.drawn.features]
    for row, given_ in zip(explained["rows"], rows, strict=True):
        assert [c["feature"] for c in row["contributions"]] == names
        assert {c["feature"]: c["value"] for c in row["contributions"]} == pytest.approx(given_)
    first = {c["feature"]: c for c in explained["rows"][0]["contributions"]}
    low, high = first["x0"]["typical"]
    assert -2 < low < -1 < 1 < high < 2
    assert set(first["origin"]["typical"]) == {"EWR", "JFK", "LGA"}
    spread = {
        n: np.std([r["contributions"][i]["contribution"] for r in explained["rows"]]) for i, n in enumerate(names)
    }
    assert max(spread, key=spread.get) == "x0"
    logged = SegmentReader(tmp_path / "log").read()
    assert sum(row.endpoint is None for row in logged) == len(rows) == sum(row.endpoint == "explain" for row in logged)


def test_what_keeps_only_onnx_is_refused_with_that_reason_and_a_wrong_field_by_its_name(families, tmp_path):
    with serving(families["hist_gradient_boosting"], tmp_path / "log") as base:
        status, refused = post(f"{base}/explain", {"rows": asked(1)})
        assert (status, "only ONNX is kept" in refused["error"]) == (409, True)
        status, refused = post(f"{base}/explain", {"rows": [{"x9": 1}]})
        assert (status, "x9" in refused["error"]) == (400, True)
        assert post(f"{base}/predict", {"rows": asked(1)})[0] == 200


SCHEMA = FeatureSchema(tuple(Feature(f.name, f.kind, f.categories) for f in synthetic.drawn.features))


@pytest.mark.parametrize(
    "options", [{}, {"select": 0.5}, {"components": 2}, {"select": 0.75, "components": 2}], ids=str
)
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_however_rows_are_prepared_the_sum_is_the_score(family, options, tmp_path):
    encoded, labels = SCHEMA.encode_frame(ROWS), ROWS["label"].to_numpy().astype(float)
    quick = {"num_boost_round": 20, "num_leaves": 7} if family == "lightgbm" else {}
    model = ESTIMATORS[family](SCHEMA, **quick, **options).fit(encoded, labels)
    for name, text in (("model.txt", model.text), ("feature_schema.json", SCHEMA.dump())):
        (tmp_path / name).write_text(text)
    (tmp_path / "model.onnx").write_bytes(model.onnx())
    (tmp_path / "reference.json").write_text('{"rows": [], "scores": []}')  # a version from before `typical` was kept
    write_manifest(tmp_path)
    loaded = load_model(tmp_path)
    rows = ROWS.select(SCHEMA.names).head(1000)
    scored = Scored(
        RowMaker(SCHEMA).of_lists(rows.rows()), SCHEMA.encode_frame(rows), loaded.score(SCHEMA.encode_frame(rows)), None
    )
    told = Explainer(loaded, tmp_path).explain(scored)
    for row in told:
        assert row.base + sum(c.contribution for c in row.contributions) == pytest.approx(odds(row.score), abs=1e-5)
        assert [c.feature for c in row.contributions][: len(SCHEMA.names)] == list(SCHEMA.names)
        assert {c.typical for c in row.contributions} == {None}
    if "select" in options:
        assert any(all(row.contributions[i].contribution == 0 for row in told) for i in range(len(SCHEMA.names)))


@given(st.floats(-12, 12), st.floats(-0.01, 0.01))
def test_a_sum_that_is_not_the_scores_is_never_given(log_odds, off):
    score = float(np.float32(1 / (1 + np.exp(-log_odds))))
    found = Terms(("x",), np.array([[log_odds - 1 + off]]), 1.0)
    if abs(off) < 1e-6:
        prove(found, [score])
    elif abs(off) > 2e-5 + 2**-21 / (1 - score):
        with pytest.raises(PlatformError, match="row 0"):
            prove(found, [score])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan")), max_size=300), st.integers(0, 9))
def test_typical_ranges_leave_at_least_20_rows_out_on_each_side_and_values_have_20(numbers, seed):
    codes = np.random.default_rng(seed).integers(0, 4, len(numbers))
    schema = FeatureSchema((Feature("x", "numeric"), Feature("c", "category", ("a", "b", "c"))))
    found = typical_of(np.column_stack([np.array(numbers, np.float32), codes]).astype(np.float32), schema)
    known = np.sort(np.array(numbers, np.float32)[~np.isnan(numbers)]) if numbers else np.zeros(0)
    assert (found["x"] is None) == (len(known) <= 2 * LEAST)
    if found["x"]:
        low, high = found["x"]
        assert low <= known[LEAST]
        assert high >= known[-1 - LEAST]
        assert all(bound == float(f"{bound:.1e}") for bound in (low, high))
    counts = {name: int((codes == code).sum()) for code, name in enumerate(("a", "b", "c"), 1)}
    wanted = sorted((n for n in counts if counts[n] >= LEAST), key=lambda n: (-counts[n], n))
    assert found["c"] == (wanted or None)
