"""The flights' Feast repo and the feature step: applied by feast, equal to the plain join and to live traffic."""

import hashlib
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from flights.requests import load_traffic
from flights.workload import flight_delay
from tidegate.errors import PlatformError, UserError
from tidegate.features import asof, feast_repo
from tidegate.features.step import features
from tidegate.ingest.disk import read_manifest, read_tables
from tidegate.ingest.step import ingest
from tidegate.validate.step import validate
from tidegate.version.step import version

FLIGHTS = "flights.workload:flight_delay"
REPO = Path(__file__).parents[2] / "feature_repo"
UNTIL = "2013-02-10"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Arrivals, valid rows and data version of six weeks, blizzard included; features of them."""
    root = tmp_path_factory.mktemp("work")
    ingest(FLIGHTS, UNTIL, root / "arrivals")
    assert validate(root / "arrivals", FLIGHTS, root / "valid").verdict == "passed"
    version(root / "valid", root / "state", root / "data_version.json")
    run(root, root / "features.parquet")
    return root


def run(root, out):
    return features(root / "valid", FLIGHTS, root / "data_version.json", root / "state", out)


def test_the_rows_are_those_that_train_reads(work):
    rows = pl.read_parquet(work / "features.parquet")
    names = [feature.name for feature in flight_delay.features]
    assert rows.columns == [
        "flight_id",
        "event_timestamp",
        "label_timestamp",
        "outcome",
        "label",
        *names,
        "carrier_size",
    ]
    assert rows.schema["event_timestamp"] == pl.Datetime("us", "UTC")
    for feature in flight_delay.features:
        assert rows.schema[feature.name] == (pl.String if feature.kind == "category" else pl.Float32)
    assert rows.equals(rows.sort("event_timestamp", "flight_id"))
    assert set(rows["outcome"]) == {"observed", "cancelled"}
    assert rows.filter(outcome="cancelled")["label"].null_count() == (rows["outcome"] == "cancelled").sum()
    assert rows["label_timestamp"].max() <= datetime(2013, 2, 10, tzinfo=UTC)


def test_feast_gives_what_the_plain_join_gives(work):
    tables = read_tables(work / "valid", read_manifest(work / "valid"))
    rows = flight_delay.entities(tables, datetime(2013, 2, 10, tzinfo=UTC))
    plain = flight_delay.derive(asof.join(rows, asof.pick(flight_delay.view_definitions(), flight_delay.views(tables))))
    answer = pl.read_parquet(work / "features.parquet")
    assert plain.select(answer.columns).equals(answer)


def test_live_traffic_has_the_same_values(work):
    answer = pl.read_parquet(work / "features.parquet")
    live = load_traffic(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 10, tzinfo=UTC))
    known = live.filter(pl.col("label_timestamp") <= datetime(2013, 2, 10, tzinfo=UTC))
    assert known.equals(answer.select(known.columns))


def test_the_same_rows_give_the_same_bytes(work):
    run(work, work / "again" / "features.parquet")
    digests = [hashlib.sha256((work / p).read_bytes()).digest() for p in ("features.parquet", "again/features.parquet")]
    assert digests[0] == digests[1]
    assert [path.name for path in (work / "again").iterdir()] == ["features.parquet"]


def test_rows_that_are_not_the_data_version_are_refused(work, tmp_path):
    shutil.copytree(work / "valid", tmp_path / "valid")
    for name in ("data_version.json", "state"):
        (tmp_path / name).symlink_to(work / name)
    path = tmp_path / "valid" / "flights" / "2013-01.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(PlatformError, match=r"2013-01\.parquet is not what data version"):
        run(tmp_path, tmp_path / "features.parquet")
    assert not (tmp_path / "features.parquet").exists()


def test_a_version_that_the_remote_does_not_have_is_named(work, tmp_path):
    (tmp_path / "v.json").write_text(json.dumps({"version": "0" * 32 + ".dir"}))
    with pytest.raises(PlatformError, match="is not there"):
        features(work / "valid", FLIGHTS, tmp_path / "v.json", work / "state", tmp_path / "f.parquet")
    (tmp_path / "v.json").write_text("no json")
    with pytest.raises(UserError, match=r"data_version\.json of a version step"):
        features(work / "valid", FLIGHTS, tmp_path / "v.json", work / "state", tmp_path / "f.parquet")


def test_the_repo_is_found_from_anywhere(monkeypatch, tmp_path):
    import flights.workload  # noqa: F401

    monkeypatch.chdir(tmp_path)
    assert feast_repo.find_repo("feature_repo", "flights.workload") == REPO
    with pytest.raises(UserError, match=r"feature_store\.yaml"):
        feast_repo.find_repo("no_such_repo", "flights.workload")


def test_feast_apply_works_in_the_repo_as_it_is(tmp_path):
    shutil.copytree(REPO, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    feast = Path(sys.executable).with_name("feast")
    ran = subprocess.run([feast, "apply"], cwd=tmp_path / "feature_repo", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    for line in ("feature view weather", "on demand feature view at_request", "feature service flight_delay"):
        assert f"Created {line}" in ran.stdout
