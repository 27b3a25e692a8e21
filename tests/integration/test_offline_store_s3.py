"""Sources behind a URL: the same answers from a real S3 server as from a folder, and batches written to it."""

import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.integration.offline_repo import OURS, START, make_store, sample
from tidegate.errors import UserError

RCLONE = Path(sys.executable).with_name("rclone")


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """An S3 server on a free port; its URL, and the folder whose folders are its buckets."""
    root = tmp_path_factory.mktemp("s3")
    (root / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        RCLONE,
        "serve",
        "s3",
        str(root),
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        "user,secret",
        "--config",
        "",
    ]
    words += ["--dir-cache-time", "0s"]  # the tests change the files below it
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        wait_for(port)
        yield f"http://127.0.0.1:{port}", root
        server.terminate()


def wait_for(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "rclone does not answer"
            time.sleep(0.05)


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "user")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def stores(s3, tmp_path):
    """The same repo twice: its tables in a folder, and the same files in a bucket."""
    endpoint, root = s3
    trips, weather, entities = sample()
    shutil.rmtree(root / "bucket")
    for place in (tmp_path, root / "bucket"):
        place.mkdir(exist_ok=True)
        weather.to_parquet(place / "weather.parquet")
        for number in range(4):
            part = place / "trips.parquet" / f"quarter={number}" / "a.parquet"
            part.parent.mkdir(parents=True)
            trips.iloc[number * 50 : number * 50 + 50].to_parquet(part)
    here = make_store(tmp_path, OURS)
    (tmp_path / "s3").mkdir()
    there = make_store(tmp_path / "s3", OURS, "s3://bucket/", endpoint)
    return here, there, entities


@pytest.mark.parametrize("memory", [None, 1])
def test_the_answers_are_those_from_a_folder(stores, memory):
    here, there, entities = stores
    there.config.offline_store.memory_bytes = memory  # one byte: DuckDB reads the bucket
    features = ["trips:rate", "trips:count", "weather:temp"]
    left, right = (store.get_historical_features(entities, features).to_arrow() for store in (here, there))
    assert pl.DataFrame(left).equals(pl.DataFrame(right))
    assert pl.DataFrame(left)["rate"].null_count() < len(entities)


def test_pulls_read_the_bucket(stores):
    here, there, _ = stores
    span = START + timedelta(hours=5), START + timedelta(hours=20)
    found = []
    for store in (here, there):
        source = store.get_feature_view("trips").batch_source
        pull = store._get_provider().offline_store.pull_latest_from_table_or_query
        found.append(pl.DataFrame(pull(store.config, source, ["driver_id"], ["rate"], "at", "made", *span).to_arrow()))
    assert found[0].sort("driver_id").equals(found[1].sort("driver_id"))
    assert found[0].height == 5


def test_batches_go_to_the_bucket_as_parts(stores, s3):
    _, there, _ = stores
    batch = sample()[0].tail(3).assign(quarter=9)
    for _ in range(2):
        there.write_to_offline_store("trips", batch, allow_registry_cache=False)
    assert len(list((s3[1] / "bucket" / "trips.parquet" / "quarter=9").iterdir())) == 1
    source = there.get_feature_view("trips").batch_source
    pull = there._get_provider().offline_store.pull_all_from_table_or_query
    assert pull(there.config, source, ["driver_id"], ["rate"], "at").to_arrow().num_rows == 203


def test_a_bucket_without_the_files_is_named_in_one_line(stores, s3):
    _, there, entities = stores
    shutil.rmtree(s3[1] / "bucket" / "trips.parquet")
    with pytest.raises(UserError, match=r"s3://bucket/trips\.parquet: got 'no Parquet file'"):
        there.get_historical_features(entities, ["trips:rate"]).to_arrow()
