"""`AsofOfflineStore` behind Feast: against a naive search, and against Feast's own file store."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tidegate.features.feast_repo import quick_import

with quick_import():
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.repo_config import RepoConfig
    from feast.types import Float32, Int64, String

START = datetime(2013, 1, 1, tzinfo=UTC)
OURS = {"type": "tidegate.features.AsofOfflineStore"}


def make_store(folder, offline):
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        offline_store=offline,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    city = Entity(name="city", join_keys=["city_id"], value_type=ValueType.STRING)
    trips = FeatureView(
        name="trips",
        entities=[driver],
        ttl=timedelta(hours=6),
        schema=[
            Field(name="driver_id", dtype=Int64),
            Field(name="rate", dtype=Float32),
            Field(name="count", dtype=Int64),
        ],
        source=FileSource(
            name="trips_table", path="trips.parquet", timestamp_field="at", created_timestamp_column="made"
        ),
    )
    weather = FeatureView(
        name="weather",
        entities=[city],
        ttl=timedelta(0),
        schema=[Field(name="city_id", dtype=String), Field(name="temp", dtype=Float32)],
        source=FileSource(name="weather_table", path="weather.parquet", timestamp_field="at"),
    )
    request = RequestSource(name="asked", schema=[Field(name="extra", dtype=Float32)])

    @on_demand_feature_view(sources=[weather, request], schema=[Field(name="warmer", dtype=Float32)], mode="pandas")
    def warmer(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"warmer": (inputs["temp"] + inputs["extra"]).astype("float32")})

    store.apply([driver, city, trips, weather, warmer])
    return store


@pytest.fixture(scope="module")
def rows():
    draw = np.random.default_rng(1)
    hours = lambda count, high: [START + timedelta(hours=float(h)) for h in draw.integers(0, high, count)]  # noqa: E731
    trips = pd.DataFrame(
        {
            "driver_id": draw.integers(0, 5, 200),
            "rate": draw.random(200).astype("float32"),
            "count": draw.integers(0, 100, 200),
            "at": hours(200, 48),
        }
    )
    trips["made"] = trips["at"] + pd.to_timedelta(draw.permutation(200), unit="s")
    weather = pd.DataFrame(
        {"city_id": draw.choice(["x", "y"], 60), "temp": draw.random(60).astype("float32"), "at": hours(60, 48)}
    )
    weather = weather.drop_duplicates(["city_id", "at"])
    entities = pd.DataFrame(
        {
            "driver_id": draw.integers(0, 7, 150),
            "city_id": draw.choice(["x", "y", "z"], 150),
            "extra": draw.random(150).astype("float32"),
            "event_timestamp": hours(150, 60),
            "note": [f"row {i}" for i in range(150)],
        }
    )
    return trips, weather, entities


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
    with pytest.raises(ValueError, match="got columns"):
        type(store._get_provider().offline_store).offline_write_batch(store.config, view, pa.table({"a": [1]}), None)


def test_a_saved_dataset_is_written_once(store, rows, tmp_path):
    job = store.get_historical_features(rows[2], REFS)
    path = tmp_path / "saved.parquet"
    job.persist(SavedDatasetFileStorage(str(path)))
    assert len(pd.read_parquet(path)) == len(rows[2])
    with pytest.raises(Exception, match="already exists"):
        job.persist(SavedDatasetFileStorage(str(path)))


def test_a_query_as_entities_is_refused_in_words(store):
    with pytest.raises(ValueError, match="takes a pandas DataFrame"):
        store.get_historical_features("SELECT 1", ["trips:rate"])
