"""A service process that was told of a workload answers by key; what it is told wrongly is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import polars as pl
import pytest
from flights_online import FLIGHTS, ROOT, Service, write_flights_model

from flights.workload import flight_delay
from tidegate.features.asof import INSTANT, TIME
from tidegate.features.live import live_repo, open_store
from tidegate.features.online_write import write_online
from tidegate.serve.service import Settings
from tidegate.targets.processes import free_port
from tidegate.train.model_file import folder_name

NOW = datetime(2013, 6, 1, 12, tzinfo=UTC)
KEYS = {"tailnum": "N101UA", "carrier": "UA", "origin": "EWR", "dest": "BOS", "distance": 200, "hour": 9, "weekday": 2}


def command(state: Path, digest: str, *more: str) -> list[str]:
    words = ("--model-dir", str(state / "models" / folder_name(digest)), "--name", "flight-delay", "--version", "v1")
    log = ("--observations", str(state / "observations" / "predictions"), "--clock", "events")
    return [sys.executable, "-m", "tidegate.serve.service", *words, *log, *more]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    state = tmp_path_factory.mktemp("state")
    return state, write_flights_model(state)


def test_a_process_answers_by_key_and_sees_what_is_pushed_while_it_runs(work: tuple[Path, str]) -> None:
    state, digest = work
    live, port = live_repo(state, flight_delay, FLIGHTS), free_port()
    told = ("--workload", FLIGHTS, "--online", str(live.online), "--project", live.project, "--port", str(port))
    process = subprocess.Popen(command(state, digest, *told), cwd=ROOT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            wait_for(client)
            document = {"keys": [KEYS], "at": NOW.timestamp()}
            assert client.post("/predict", json=document).json()["rows"][0].keys() == {"score"}
            view = next(view for view in flight_delay.view_definitions() if view.name == "carrier_delays")
            row = {"carrier": "UA", TIME: NOW, "carrier_delay_24h": 12.5, "created": NOW}
            kinds = {"carrier": pl.String, TIME: INSTANT, "carrier_delay_24h": pl.Float32, "created": INSTANT}
            write_online(open_store(live), view, pl.DataFrame([row], kinds), NOW)
            assert client.post("/predict", json=document).json()["rows"][0]["fallback"] == "carrier"
            refused = client.post("/predict", json={"keys": [{"tailnum": "N101UA"}], "at": 5})
            assert (refused.status_code, refused.json()["error"]) == (
                400,
                "keys[0].origin: got None, takes a value; it is required",
            )
            entity = client.get("/openapi.json").json()["components"]["schemas"]["Entity"]
            assert sorted(entity["required"]) == ["carrier", "dest", "origin", "tailnum"]
            assert set(entity["properties"]) == set(KEYS)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def wait_for(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("--workload", FLIGHTS), "--online and --project: got None, takes the online store and its project"),
        (
            ("--workload", "flights.nothing:x", "--online", "x", "--project", "p"),
            "workload: got 'flights.nothing:x', takes package.module:object",
        ),
    ],
)
def test_what_a_service_is_told_wrongly_is_one_line(work: tuple[Path, str], more: tuple[str, ...], line: str) -> None:
    done = subprocess.run(
        command(*work, *more, "--port", str(free_port())), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_settings_come_from_the_environment_too() -> None:
    given = {
        **{"TIDEGATE_MODEL_DIR": "m", "TIDEGATE_NAME": "n", "TIDEGATE_VERSION": "v1", "TIDEGATE_OBSERVATIONS": "o"},
        **{"TIDEGATE_WORKLOAD": FLIGHTS, "TIDEGATE_ONLINE": "data/online.db", "TIDEGATE_PROJECT": "flights"},
    }
    found = Settings.from_environment(given)
    assert (found.workload, found.online, found.project) == (FLIGHTS, Path("data/online.db"), "flights")


def test_serving_by_key_imports_no_feast() -> None:
    code = (
        "import sys; from tidegate.workload import load_workload; import tidegate.serve.service; "
        "import tidegate.features.online; "
        f"load_workload({FLIGHTS!r}).view_definitions(); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & {"feast", "pandas", "mlflow", "bentoml", "duckdb"}


def test_an_in_process_service_and_a_process_serve_the_same_fields(work: tuple[Path, str]) -> None:
    service = Service(*work)
    assert set(service.lookup.fields.keys) | set(service.lookup.fields.inputs) == set(KEYS)
    service.close()
