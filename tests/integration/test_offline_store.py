"""`AsofOfflineStore` behind Feast: against a naive search, and against Feast's own file store."""

import os
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.integration.offline_repo import OURS, START, make_store, sample
from tidegate.errors import UserError
from tidegate.features.feast_repo import quick_import

with quick_import():
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage


@pytest.fixture(scope="module")
def rows():
    return sample()


@pytest.fixture(scope="module")
def store(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repo")
    rows[0].to_parquet(folder / "trips.parquet")
    rows[1].to_parquet(folder / "weather.parquet")
    return make_store(folder, OURS)


pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")
REFS = ["trips:rate", "trips:count", "weather:temp", "warmer:warmer"]


def naive(table, key, value, now, ttl, ties):
    fits = table[(table[key[0]] == key[1]) & (table["at"] <= now)]
    if ttl:
        fits = fits[fits["at"] >= now - ttl]
    return None if fits.empty else fits.sort_values(["at", *ties]).iloc[-1][value]


def test_historical_features_are_the_naive_ones_and_no_row_is_dropped(store, rows):
    trips, weather, entities = rows
    answer = store.get_historical_features(entities, REFS).to_df()
    assert answer["note"].to_list() == entities["note"].to_list()
    for i, row in entities.iterrows():
        now = row["event_timestamp"]
        rate = naive(trips, ("driver_id", row["driver_id"]), "rate", now, timedelta(hours=6), ["made"])
        temp = naive(weather, ("city_id", row["city_id"]), "temp", now, None, [])
        warmer = None if temp is None else np.float32(temp) + np.float32(row["extra"])
        for name, wanted in (("rate", rate), ("temp", temp), ("warmer", warmer)):
            got = answer[name][i]
            assert (wanted is None and pd.isna(got)) or got == wanted, (name, row)
    assert answer["rate"].isna().any()
    assert answer["rate"].notna().any()


def test_arrow_and_pandas_tell_the_same(store, rows):
    job = store.get_historical_features(rows[2], REFS)
    table = job.to_arrow()
    assert isinstance(table, pa.Table)
    pd.testing.assert_frame_equal(table.to_pandas(), job.to_df())


def test_full_names_carry_the_view(store, rows):
    answer = store.get_historical_features(rows[2], ["trips:rate", "weather:temp"], full_feature_names=True).to_df()
    assert list(answer.columns)[-2:] == ["trips__rate", "weather__temp"]


def test_naive_times_of_entities_are_utc(store, rows):
    entities = rows[2].assign(event_timestamp=rows[2]["event_timestamp"].dt.tz_localize(None))
    ours = store.get_historical_features(entities, ["trips:rate"]).to_df()
    theirs = store.get_historical_features(rows[2], ["trips:rate"]).to_df()
    pd.testing.assert_series_equal(ours["rate"], theirs["rate"])


def test_feasts_own_file_store_tells_the_same_where_it_keeps_the_row(store, rows, tmp_path):
    trips, weather, entities = rows
    # Feast's own store sorts ties of the timestamp with an unstable sort, so it gets none.
    no_ties = trips.sort_values(["at", "made"]).drop_duplicates(["driver_id", "at"], keep="last")
    no_ties.to_parquet(tmp_path / "trips.parquet")
    weather.to_parquet(tmp_path / "weather.parquet")
    # It drops repeated entity rows, and those whose every value is too old or still to come.
    asked = entities.drop_duplicates(["driver_id", "city_id", "event_timestamp"])
    theirs = make_store(tmp_path, {"type": "file"}).get_historical_features(asked, REFS).to_df()
    ours = store.get_historical_features(asked, REFS).to_df()
    assert len(ours) == len(asked) > len(theirs) > 100
    order = ["note", "rate", "count", "temp", "warmer"]
    pd.testing.assert_frame_equal(
        ours[ours["note"].isin(theirs["note"])][order].sort_values("note", ignore_index=True),
        theirs[order].sort_values("note", ignore_index=True),
        check_dtype=False,
    )


def test_the_latest_rows_go_online(store, rows):
    trips = rows[0]
    end = START + timedelta(hours=30)
    store.materialize(START - timedelta(hours=1), end, feature_views=["trips"])
    online = store.get_online_features(["trips:rate"], [{"driver_id": i} for i in range(5)]).to_dict()
    for i, rate in zip(online["driver_id"], online["rate"], strict=True):
        assert rate == naive(trips, ("driver_id", i), "rate", end, None, ["made"])


def test_all_rows_of_a_time_range(store, rows):
    low, high = START + timedelta(hours=5), START + timedelta(hours=9)
    source = store.get_feature_view("trips").batch_source
    job = store._get_provider().offline_store.pull_all_from_table_or_query(
        store.config, source, ["driver_id"], ["rate"], "at", "made", low, high
    )
    wanted = rows[0][(rows[0]["at"] >= low) & (rows[0]["at"] <= high)]
    assert sorted(job.to_df()["rate"]) == sorted(wanted["rate"])


def test_rows_are_appended(rows, tmp_path):
    rows[0].head(10).to_parquet(tmp_path / "trips.parquet")
    rows[1].to_parquet(tmp_path / "weather.parquet")
    store = make_store(tmp_path, OURS)
    store.write_to_offline_store("trips", rows[0].tail(5), allow_registry_cache=False)
    assert len(pd.read_parquet(tmp_path / "trips.parquet")) == 15
    view = store.get_feature_view("trips")
    with pytest.raises(UserError, match="got 'columns a'"):
        type(store._get_provider().offline_store).offline_write_batch(store.config, view, pa.table({"a": [1]}), None)


def test_a_saved_dataset_is_written_once(store, rows, tmp_path):
    job = store.get_historical_features(rows[2], REFS)
    path = tmp_path / "saved.parquet"
    job.persist(SavedDatasetFileStorage(str(path)))
    assert len(pd.read_parquet(path)) == len(rows[2])
    with pytest.raises(Exception, match="already exists"):
        job.persist(SavedDatasetFileStorage(str(path)))


def write(store, table):
    type(store._get_provider().offline_store).offline_write_batch(
        store.config, store.get_feature_view("trips"), table, None
    )


def test_a_folder_that_is_not_there_yet_takes_batches(rows, tmp_path):
    trips, weather, entities = rows
    weather.to_parquet(tmp_path / "weather.parquet")
    store = make_store(tmp_path, OURS, f"{tmp_path}/folders/")
    folder = tmp_path / "folders" / "trips.parquet"
    folder.mkdir(parents=True)
    batches = [pa.Table.from_pandas(trips.iloc[low : low + 50], preserve_index=False) for low in range(0, 200, 50)]
    write(store, batches[0].slice(0, 0))
    for batch in [*batches, batches[1]]:
        write(store, batch)
    assert len(list(folder.iterdir())) == 1 + 4
    trips.to_parquet(tmp_path / "trips.parquet")
    whole = make_store(tmp_path, OURS).get_historical_features(entities, ["trips:rate"]).to_df()
    parts = make_store(tmp_path, OURS, f"{tmp_path}/folders/").get_historical_features(entities, ["trips:rate"])
    pd.testing.assert_frame_equal(whole, parts.to_df())
    with pytest.raises(UserError, match="takes columns driver_id, rate, count, at, made"):
        write(store, pa.table({"driver_id": [1]}))


def test_values_of_another_type_are_refused(rows, tmp_path):
    rows[0].to_parquet(tmp_path / "trips.parquet")
    store = make_store(tmp_path, OURS)
    batch = pa.Table.from_pandas(rows[0].head(2).assign(rate=["fast", "slow"]), preserve_index=False)
    with pytest.raises(UserError, match="values of the columns' types"):
        write(store, batch)
    assert len(pd.read_parquet(tmp_path / "trips.parquet")) == 200


def test_a_backfill_leaks_unless_created_times_are_heeded(rows, tmp_path):
    """A later run recomputes the past, with values that nobody had then."""
    trips, weather, entities = rows
    prompt = trips.assign(made=trips["at"])
    backfill = prompt.assign(rate=prompt["rate"] + 100, made=pd.Timestamp(START) + pd.Timedelta(days=30))
    pd.concat([prompt, backfill]).to_parquet(tmp_path / "trips.parquet")
    weather.to_parquet(tmp_path / "weather.parquet")
    store = make_store(tmp_path, OURS)
    asked = [
        store.get_historical_features(entities, ["trips:rate"], filter_by_created_timestamp=x) for x in (False, True)
    ]
    leaked, known = (job.to_df()["rate"] for job in asked)
    assert (leaked.dropna() >= 100).all()
    assert known.notna().sum() == leaked.notna().sum() > 50
    prompt.to_parquet(tmp_path / "trips.parquet")
    then = store.get_historical_features(entities, ["trips:rate"]).to_df()["rate"]
    pd.testing.assert_series_equal(known, then)


def test_keys_of_another_kind_and_missing_columns_are_named(store, rows):
    with pytest.raises(UserError, match="entity rows, column driver_id: got 'String'"):
        store.get_historical_features(rows[2].astype({"driver_id": str}), ["trips:rate"]).to_df()
    with pytest.raises(UserError, match="no column driver_id"):
        store.get_historical_features(rows[2].drop(columns="driver_id"), ["trips:rate"]).to_df()
    with pytest.raises(UserError, match="got 'rate'"):
        store.get_historical_features(rows[2].assign(rate=1), ["trips:rate"])


def test_a_join_within_a_small_memory_gives_the_same(rows, tmp_path):
    """One byte of memory: every view goes to DuckDB, in its least limit."""
    trips, weather, entities = rows
    trips.to_parquet(tmp_path / "trips.parquet")
    weather.to_parquet(tmp_path / "weather.parquet")
    for known in (False, True):
        answers = [
            make_store(tmp_path, {**OURS, **more})
            .get_historical_features(entities, REFS, filter_by_created_timestamp=known)
            .to_df()
            for more in ({}, {"memory_bytes": 1})
        ]
        pd.testing.assert_frame_equal(*answers)


LARGE = """
import duckdb, sys
import polars as pl
from tidegate.features.asof import AsofView
from tidegate.features.opened import opened_view
from tidegate.features.parquet_source import open_source
from tidegate.features.spill import lookup_spilling
folder, out, limit = sys.argv[1:]

def memory(name):
    line = next(one for one in open("/proc/self/status") if one.startswith(name))
    return int(line.split()[1]) // 1024

rows = pl.read_parquet(f"{folder}/entities.parquet")
view = AsofView("large", ("k",), ("v", "w"), None, "at", "made")
opened = opened_view(view, open_source(f"{folder}/view"), {})
before = memory("VmRSS")
spilled = lookup_spilling(rows, opened, int(limit) * 2**20, "at")
spilled.write_parquet(out)
print(memory("VmHWM") - before)
"""


def test_a_view_larger_than_the_memory_is_joined_from_disk(tmp_path):
    """9 million rows, 343 MiB once read, joined by DuckDB in 128: the process grows by less than the table's size."""
    (tmp_path / "view").mkdir()
    count, parts = 1_000_000, 9
    for part in range(parts):
        number = pl.int_range(part * count, (part + 1) * count, eager=True)
        at = (number * 1_000_000).cast(pl.Datetime("us", "UTC"))
        key = (number * 2_654_435_761) % 1000
        table = pl.DataFrame({"k": key, "at": at, "made": at, "v": number.cast(pl.Float64), "w": number})
        table.write_parquet(tmp_path / "view" / f"{part}.parquet", compression="lz4")
    asked = pl.int_range(0, count * parts, 20_011, eager=True)
    rows = pl.DataFrame({"k": asked % 1000, "at": (asked * 1_000_000).cast(pl.Datetime("us", "UTC"))})
    rows.write_parquet(tmp_path / "entities.parquet")
    words = [sys.executable, "-c", LARGE, str(tmp_path), str(tmp_path / "out.parquet"), "128"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 343
    found = pl.read_parquet(tmp_path / "out.parquet")
    # The newest row of key k at or before row n is the last m <= n with m * 2654435761 = k (mod 1000).
    inverse = pow(2_654_435_761, -1, 1000)
    residue = (asked % 1000) * inverse % 1000
    newest = asked - (asked - residue) % 1000
    assert found["w"].equals(pl.select(pl.when(newest >= 0).then(newest)).to_series().rename("w"))
    assert found["v"].equals(found["w"].cast(pl.Float64).rename("v"))
