"""Materialize, /predict by key over it, and parity: on real flights, data versions and Feast."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from flights_online import FLIGHTS, ROOT, Service, asked_of, make_version, seconds, tables_of, write_flights_model

from flights.workload import flight_delay
from tidegate.errors import UserError
from tidegate.features import asof
from tidegate.features.asof import TIME
from tidegate.features.live import feeding, live_repo, offline_rows, open_store
from tidegate.features.logged import check_parity
from tidegate.features.materialize import materialize
from tidegate.features.online_write import write_online
from tidegate.features.parity import same
from tidegate.serve.batch import Batch, Job
from tidegate.spec import load_model

FIRST, SECOND = "2013-01-20", "2013-01-24"
MODEL = load_model(ROOT / "k8s/models/flight-delay.yaml")
FEATURES = [feature.name for feature in flight_delay.features]


@dataclass(frozen=True)
class Work:
    state: Path
    digest: str
    first: Path
    second: Path
    entities: pl.DataFrame


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Predictions asked by key after each of two materializations; 600 flights each time."""
    root = tmp_path_factory.mktemp("online")
    first = make_version(root, FIRST)
    state = root / "state"
    digest = write_flights_model(state)
    entities = flight_delay.entities(tables_of(first), datetime(2013, 1, 20, tzinfo=UTC)).tail(600)
    done = materialize(FLIGHTS, state)
    assert min(done.offline.values()) > 0
    service = Service(state, digest)
    for number, keys in enumerate(asked_of(entities)):
        service.ask([keys], seconds(FIRST) + number % 3 * 3600, f"first-{number}")
    second = make_version(root, SECOND)
    again = materialize(FLIGHTS, state)
    assert 0 < again.offline["aircraft"] < done.offline["aircraft"]
    service.ask(asked_of(entities), seconds(SECOND), "second")
    service.close()
    return Work(state, digest, first, second, entities)


@pytest.fixture
def copy(work: Work, tmp_path: Path) -> Path:
    return Path(shutil.copytree(work.state, tmp_path / "state"))


def expected(tables: dict[str, pl.DataFrame], entities: pl.DataFrame, at: str) -> pl.DataFrame:
    """What the feature step would say of the entities, all asked at `at`."""
    rows = entities.with_columns(pl.lit(datetime.fromisoformat(f"{at}T00:00:00+00:00")).alias(TIME))
    views = asof.pick(flight_delay.view_definitions(), flight_delay.views(tables))
    return flight_delay.derive(asof.join(rows, views))


@pytest.mark.parametrize(("until", "prefix"), [(FIRST, "first-"), (SECOND, "second/")])
def test_features_by_key_are_bit_equal_to_the_feature_steps(work: Work, until: str, prefix: str) -> None:
    service = Service(work.state, work.digest, writer="other")
    rows = [row for row in service.rows() if row.request_id.startswith(prefix) and row.time == seconds(until)]
    service.close()
    wanted = work.entities.gather_every(3) if prefix == "first-" else work.entities
    assert len(rows) == wanted.height
    offline = expected(tables_of(work.first if until == FIRST else work.second), wanted, until)
    for index, name in enumerate(FEATURES):
        values = [row.features[index] for row in rows]
        served = pl.Series(values, dtype=pl.String if name in ("carrier", "origin", "dest") else pl.Float64)
        assert np.all(same(served, offline[name])), name
    assert any(row.fallback == "carrier" for row in rows)


def test_a_batch_by_key_scores_as_predict_by_key_does(work: Work, tmp_path: Path) -> None:
    service = Service(work.state, work.digest, writer="read")
    logged = {int(one.request_id.partition("/")[2]): one for one in service.rows() if one.request_id[:7] == "second/"}
    service.close()
    at = datetime.fromisoformat(f"{SECOND}T00:00:00+00:00")
    rows = pl.DataFrame(asked_of(work.entities)).with_columns(flight_id=work.entities["flight_id"], event_timestamp=at)
    rows.write_parquet(tmp_path / "rows.parquet")
    place = str(tmp_path / "out")
    job = Job("m", "v1", work.digest, FLIGHTS, str(work.state), str(tmp_path / "rows.parquet"), place, at.timestamp())
    assert Batch(job).run().rows == len(logged) == work.entities.height
    assert pl.read_parquet(place)["score"].to_list() == [logged[number].score for number in range(len(logged))]


def test_an_unseen_aircraft_is_answered_at_level_carrier_and_an_unseen_carrier_at_level_all(
    work: Work, copy: Path
) -> None:
    service = Service(copy, work.digest, writer="cold")
    known = asked_of(work.entities.tail(1))[0]
    new, newer = {**known, "tailnum": "N-NEW"}, {**known, "tailnum": "N-NEW", "carrier": "XX"}
    levels = [row.get("fallback") for row in service.ask([new, newer], seconds(SECOND), "cold")]
    assert levels == ["carrier", "all"]
    logged = [row for row in service.rows() if row.request_id.startswith("cold")]
    service.close()
    assert [row.fallback for row in logged] == ["carrier", "all"]
    assert all(row.features[FEATURES.index("inbound_delay")] is not None for row in logged)
    assert check_parity(MODEL, copy, 2).ok


def test_no_logged_prediction_differs_from_what_offline_says(work: Work) -> None:
    report = check_parity(MODEL, work.state, 10_000)
    assert (report.predictions, report.differing) == (1200, 0), report.to_text()


def test_a_planted_difference_is_found_and_named(work: Work, copy: Path) -> None:
    with sqlite3.connect(live_repo(copy, flight_delay, FLIGHTS).online) as raw:
        raw.execute("UPDATE flights_weather SET value = x'350000c841' WHERE feature_name = 'wind_speed'")
    raw.close()
    service = Service(copy, work.digest, writer="planted")
    service.ask(asked_of(work.entities.tail(2)), seconds(SECOND), "planted")
    service.close()
    command = (sys.executable, "-m", "tidegate.cli", "features", "parity", "k8s/models/flight-delay.yaml")
    done = subprocess.run(
        [*command, "--state", str(copy), "--limit", "50", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["predictions"], report["differing"]) == (1, False, 50, 2), done.stderr
    found = report["differences"][0]
    assert (found["request_id"], found["feature"], found["served"]) == ("planted/0", "wind_speed", 25.0)
    assert found["offline"] != 25.0


def test_taken_again_nothing_is_new(work: Work, copy: Path) -> None:
    done = materialize(FLIGHTS, copy)
    assert set(done.offline.values()) == {0}
    assert set(done.online.values()) == {0}


def test_what_a_killed_writer_left_unfinished_is_passed_over_and_cleared_away(work: Work, copy: Path) -> None:
    live, view = live_repo(copy, flight_delay, FLIGHTS), flight_delay.view_definitions()[0]
    whole, torn = offline_rows(live, view), live.views / view.name / ".batch-1.parquet.new"
    torn.write_bytes(b"PAR1")
    (live.views / view.name / ".beside").mkdir()
    (live.views / view.name / ".beside" / "batch-2.parquet").write_bytes(b"PAR1")
    assert offline_rows(live, view).equals(whole)
    assert set(materialize(FLIGHTS, copy).offline.values()) == {0}
    assert not torn.exists()


def test_a_row_that_a_stream_brought_is_not_replaced_by_an_older_one(work: Work, copy: Path) -> None:
    live, view = live_repo(copy, flight_delay, FLIGHTS), flight_delay.view_definitions()[2]
    plane = work.entities["tailnum"].drop_nulls()[-1]
    now = datetime(2013, 1, 24, 6, tzinfo=UTC)
    row = {"tailnum": plane, TIME: now, "inbound_delay": 77.0, "created": now}
    kinds = {"tailnum": pl.String, TIME: asof.INSTANT, "inbound_delay": pl.Float32, "created": asof.INSTANT}
    write_online(open_store(live), view, pl.DataFrame([row], kinds), now)
    assert set(materialize(FLIGHTS, copy).online.values()) == {0}
    service = Service(copy, work.digest, writer="streamed")
    service.ask([{**asked_of(work.entities.tail(1))[0], "tailnum": plane}], now.timestamp(), "streamed")
    (answered,) = [one for one in service.rows() if one.request_id.startswith("streamed")]
    service.close()
    assert answered.features[FEATURES.index("inbound_delay")] == 77.0


def test_one_process_feeds_at_a_time(copy: Path) -> None:
    with feeding(live_repo(copy, flight_delay, FLIGHTS)), pytest.raises(UserError, match="fed by another process"):
        materialize(FLIGHTS, copy)


def test_without_a_data_version_it_says_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data version in it', takes a state folder after `tidegate run`"):
        materialize(FLIGHTS, tmp_path)


@pytest.mark.parametrize("seen", ["origin_delays", "dest_rates"])
def test_killed_in_the_middle_and_run_again_it_ends_the_same(work: Work, copy: Path, seen: str) -> None:
    shutil.rmtree(copy / "features")
    code = f"from tidegate.features.materialize import *; materialize({FLIGHTS!r}, Path({str(copy)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    folder, deadline = copy / "features" / "data" / "views" / seen, time.monotonic() + 60
    while not (folder.is_dir() and any(folder.iterdir())) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    materialize(FLIGHTS, copy)
    live, whole = live_repo(copy, flight_delay, FLIGHTS), live_repo(work.state, flight_delay, FLIGHTS)
    for view in flight_delay.view_definitions():
        columns = [*view.keys, TIME, *view.features]
        again, once = (offline_rows(one, view).select(columns).sort(columns) for one in (live, whole))
        assert again.equals(once), view.name
    service = Service(copy, work.digest, writer="killed")
    service.ask(asked_of(work.entities), seconds(SECOND), "killed")
    service.close()
    assert check_parity(MODEL, copy, work.entities.height).ok
    rows = service.rows()
    before = {r.request_id.partition("/")[2]: r.features for r in rows if r.request_id.startswith("second")}
    assert {r.request_id.partition("/")[2]: r.features for r in rows if r.request_id.startswith("killed")} == before


def test_values_that_are_too_old_at_the_requests_time_are_null_here_and_offline(work: Work, copy: Path) -> None:
    service = Service(copy, work.digest, writer="late")
    late = seconds(SECOND) + timedelta(days=40).total_seconds()
    service.ask(asked_of(work.entities.tail(5)), late, "late")
    rows = [row for row in service.rows() if row.request_id.startswith("late")]
    service.close()
    looked_up = [index for index, name in enumerate(FEATURES) if "delay" in name or "late" in name or name == "visib"]
    assert all(row.features[index] is None for row in rows for index in looked_up)
    assert {row.fallback for row in rows} == {None}
    assert check_parity(MODEL, copy, 5).ok


@pytest.mark.slow
def test_the_compiled_pipeline_materializes_through_kfp(copy: Path) -> None:
    from contract.orchestrator import ended

    from tidegate.orchestrators.local import LocalOrchestrator

    shutil.rmtree(copy / "features")
    orchestrator, package = LocalOrchestrator(copy), ROOT / "pipelines" / "materialize.yaml"
    status = ended(orchestrator, orchestrator.submit(package, {"workload": FLIGHTS}, "m1"), 120)
    assert (status.state, status.error) == ("succeeded", "")
    assert live_repo(copy, flight_delay, FLIGHTS).online.is_file()
