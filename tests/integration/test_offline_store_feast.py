"""Every method and argument that Feast's OfflineStore documents: the same call on Feast's duckdb store and on ours.

Frames are compared up to row order. Where the two differ, a test of its own says which is right, and why.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate.errors import UserError
from tidegate.features.feast_repo import quick_import

with quick_import():
    from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.feature_logging import LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
    from feast.infra.offline_stores.offline_store import OfflineStore
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.repo_config import RepoConfig
    from feast.types import Float32, Int64, String

START = datetime(2013, 1, 1, tzinfo=UTC)
OURS, THEIRS, DASK = {"type": "tidegate.features.AsofOfflineStore"}, {"type": "duckdb"}, {"type": "dask"}
pytestmark = pytest.mark.filterwarnings("ignore:On demand feature view is an experimental:RuntimeWarning")


def make_store(folder, offline, name):
    """A repo of five views over the tables in `folder`: one key, two, none, renamed columns, and one on demand."""
    config = RepoConfig(
        project="test",
        provider="local",
        registry=str(folder / f"{name}.db"),
        online_store={"type": "sqlite", "path": str(folder / f"{name}-online.db")},
        offline_store=offline,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    city = Entity(name="city", join_keys=["city_id"], value_type=ValueType.STRING)

    def source(table, **more):
        return FileSource(
            name=f"{table}_table",
            path=str(folder / f"{table}.parquet"),
            timestamp_field="at",
            file_format=ParquetFormat(),
            **more,
        )

    def view(name, entities, ttl, fields, of):
        return FeatureView(name=name, entities=entities, ttl=timedelta(hours=ttl), schema=fields, source=of)

    keys = {"driver": Field(name="driver_id", dtype=Int64), "city": Field(name="city_id", dtype=String)}
    rate, count = Field(name="rate", dtype=Float32), Field(name="count", dtype=Int64)
    trips = view("trips", [driver], 6, [keys["driver"], rate, count], source("trips", created_timestamp_column="made"))
    there = view("there", [driver, city], 12, [*keys.values(), rate], source("there"))
    weather = view(
        "weather",
        [city],
        0,
        [keys["city"], Field(name="temp", dtype=Float32)],
        source("weather", field_mapping={"t": "temp"}),
    )
    market = view("market", [], 48, [Field(name="price", dtype=Float32)], source("market"))
    request = RequestSource(name="asked", schema=[Field(name="extra", dtype=Float32)])

    @on_demand_feature_view(sources=[weather, request], schema=[Field(name="warmer", dtype=Float32)], mode="pandas")
    def warmer(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"warmer": (inputs["temp"] + inputs["extra"]).astype("float32")})

    service = FeatureService(
        name="trips_service",
        features=[trips],
        logging_config=LoggingConfig(destination=FileLoggingDestination(path=str(folder / f"{name}-logs"))),
    )
    store.apply([driver, city, trips, there, weather, market, warmer, service])
    return store


def tables():
    """No two rows of a view have one key and time: their order would be chance in Feast's store."""
    draw = np.random.default_rng(3)

    def table(rows, columns, keys):
        hours = pd.to_timedelta(draw.integers(0, 240, rows) / 4, unit="h")
        frame = pd.DataFrame({**columns(rows), "at": (pd.Timestamp(START) + hours).as_unit("us")})
        return frame.drop_duplicates([*keys, "at"], ignore_index=True)

    drivers = lambda rows: pd.array(draw.integers(0, 5, rows), dtype="int64")  # noqa: E731
    cities = lambda rows: draw.choice(["x", "y"], rows)  # noqa: E731
    values = lambda rows: draw.random(rows).astype("float32")  # noqa: E731
    trips = table(
        200, lambda n: {"driver_id": drivers(n), "rate": values(n), "count": draw.integers(0, 100, n)}, ["driver_id"]
    )
    # A third was backfilled days later.
    lag = np.where(draw.random(len(trips)) < 0.3, 90, draw.random(len(trips)))
    trips["made"] = (trips["at"] + pd.to_timedelta(lag, unit="h")).dt.as_unit("us")
    there = table(
        200, lambda n: {"driver_id": drivers(n), "city_id": cities(n), "rate": values(n)}, ["driver_id", "city_id"]
    )
    weather = table(80, lambda n: {"city_id": cities(n), "t": values(n)}, ["city_id"])
    market = table(40, lambda n: {"price": values(n)}, [])
    return {"trips": trips, "there": there, "weather": weather, "market": market}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feast")
    for name, table in tables().items():
        table.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return make_store(folder, OURS, "ours")


@pytest.fixture(scope="module")
def theirs(folder):
    return make_store(folder, THEIRS, "theirs")


@pytest.fixture(scope="module")
def entities():
    draw = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "driver_id": draw.integers(0, 7, 300),
            "city_id": draw.choice(["x", "y", "z"], 300),
            "extra": draw.random(300).astype("float32"),
            "event_timestamp": pd.Timestamp(START) + pd.to_timedelta(draw.integers(-8, 300, 300) / 4, unit="h"),
            "note": [f"row {i}" for i in range(300)],
        }
    )


def same(ours, theirs, order):
    """Equal frames but for the order of rows and the width of types; a null is a null, whatever stands for it."""
    assert sorted(ours.columns) == sorted(theirs.columns)
    columns = sorted(ours.columns)

    left, right = (frame.sort_values(order, ignore_index=True)[columns] for frame in (ours, theirs))
    for name in columns:
        if left[name].dtype.kind == "M":
            left[name], right[name] = (pd.to_datetime(one[name], utc=True).dt.as_unit("us") for one in (left, right))
    pd.testing.assert_frame_equal(left, right, check_dtype=False)


ALL = ["trips:rate", "trips:count", "weather:temp", "market:price", "warmer:warmer"]


@pytest.mark.parametrize("features", [ALL, ["there:rate"], ["market:price"], ["trips:count"]], ids=str)
def test_get_historical_features(ours, theirs, entities, features):
    answers = [store.get_historical_features(entities.copy(), features).to_df() for store in (ours, theirs)]
    same(*answers, "note")


@pytest.mark.parametrize("only_known", [False, True])
def test_filter_by_created_timestamp(ours, theirs, entities, only_known):
    jobs = [
        store.get_historical_features(entities.copy(), ["trips:rate"], filter_by_created_timestamp=only_known)
        for store in (ours, theirs)
    ]
    same(*(job.to_df() for job in jobs), "note")


def test_full_feature_names_keep_equal_names_apart(ours, theirs, entities):
    features = ["trips:rate", "there:rate", "warmer:warmer"]
    answers = [
        store.get_historical_features(entities.copy(), features, full_feature_names=True) for store in (ours, theirs)
    ]
    same(*(job.to_df() for job in answers), "note")
    assert {"trips__rate", "there__rate", "warmer__warmer"} <= set(answers[0].to_df().columns)


def test_the_arrow_table_is_the_frame(ours, theirs, entities):
    jobs = [store.get_historical_features(entities.copy(), ALL) for store in (ours, theirs)]
    tables = [job.to_arrow() for job in jobs]
    assert all(isinstance(table, pa.Table) for table in tables)
    same(*(table.to_pandas() for table in tables), "note")
    same(tables[0].to_pandas(), jobs[0].to_df(), "note")


def test_the_metadata_says_what_was_asked(ours, theirs, entities):
    left, right = (store.get_historical_features(entities.copy(), ["trips:rate"]).metadata for store in (ours, theirs))
    assert (left.features, sorted(left.keys)) == (right.features, sorted(right.keys))
    assert left.min_event_timestamp == right.min_event_timestamp
    assert left.max_event_timestamp == right.max_event_timestamp


def aliased(store):
    view = store.get_feature_view("trips")
    return FeatureService(name="aliased", features=[view.with_name("boss").with_join_key_map({"driver_id": "boss_id"})])


def test_a_join_key_map_names_another_column(ours, theirs, entities):
    asked = entities.rename(columns={"driver_id": "boss_id"})
    answers = []
    for store in (ours, theirs):
        store.apply([aliased(store)])
        answers.append(store.get_historical_features(asked.copy(), store.get_feature_service("aliased")).to_df())
    same(*answers, "note")
    assert answers[0]["rate"].notna().any()


@pytest.mark.parametrize("zone", [None, "America/New_York", "Asia/Kolkata"])
def test_entity_times_of_any_zone(ours, theirs, entities, zone):
    times = entities["event_timestamp"]
    asked = entities.assign(event_timestamp=times.dt.tz_localize(None) if zone is None else times.dt.tz_convert(zone))
    same(*(store.get_historical_features(asked.copy(), ["trips:rate"]).to_df() for store in (ours, theirs)), "note")


def test_null_keys_match_nothing_and_their_rows_stay(ours, theirs, entities):
    asked = entities.assign(
        city_id=entities["city_id"].where(entities.index % 3 > 0, None),
        driver_id=entities["driver_id"].where(entities.index % 4 > 0),
    )
    features = ["trips:rate", "weather:temp"]
    left, right = (store.get_historical_features(asked.copy(), features).to_df() for store in (ours, theirs))
    same(left, right, "note")
    assert left["rate"][asked["driver_id"].isna()].isna().all()


def test_entity_rows_that_are_repeated(ours, theirs, entities):
    asked = pd.concat([entities, entities.head(50)], ignore_index=True).assign(note=lambda f: f.index.astype(str))
    same(*(store.get_historical_features(asked.copy(), ["trips:rate"]).to_df() for store in (ours, theirs)), "note")


def test_no_entity_rows(ours, theirs, entities):
    left, right = (
        store.get_historical_features(entities.head(0).copy(), ["trips:rate"]).to_df() for store in (ours, theirs)
    )
    assert list(left.columns) == list(right.columns)
    assert len(left) == len(right) == 0


RANGES = [(0, 60), (5, 9), (-9, -1), (10, 10)]


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize("kind", ["latest", "all"])
def test_pulls(ours, theirs, kind, low, high):
    answers = []
    for store in (ours, theirs):
        offline, source = store._get_provider().offline_store, store.get_feature_view("trips").batch_source
        pull = {"latest": offline.pull_latest_from_table_or_query, "all": offline.pull_all_from_table_or_query}[kind]
        span = START + timedelta(hours=low), START + timedelta(hours=high)
        answers.append(pull(store.config, source, ["driver_id"], ["rate", "count"], "at", "made", *span).to_df())
    same(*answers, ["driver_id", "at"])


@pytest.mark.parametrize(
    "ends", [{}, {"start_date": START + timedelta(hours=9)}, {"end_date": START + timedelta(hours=9)}]
)
def test_a_pull_of_all_takes_open_ends_and_the_names_of_the_file(ours, theirs, ends):
    answers = []
    for store in (ours, theirs):
        offline, source = store._get_provider().offline_store, store.get_feature_view("weather").batch_source
        job = offline.pull_all_from_table_or_query(
            config=store.config,
            data_source=source,
            join_key_columns=["city_id"],
            feature_name_columns=["t"],
            timestamp_field="at",
            **ends,
        )
        answers.append(job.to_df())
    same(*answers, ["city_id", "at"])


def test_materialize_puts_the_same_values_online(ours, theirs):
    answers = []
    for store in (ours, theirs):
        store.materialize(START - timedelta(hours=1), START + timedelta(hours=30), ["trips", "weather"])
        rows = [{"driver_id": i, "city_id": city} for i in range(6) for city in "xyz"]
        answers.append(store.get_online_features(["trips:rate", "weather:temp"], rows).to_df())
    same(*answers, ["driver_id", "city_id"])
    assert answers[0]["temp"].notna().any()


def write_to(folder, offline, name):
    for table, rows in tables().items():
        rows.to_parquet(folder / f"{table}.parquet")
    return make_store(folder, offline, name)


def test_offline_write_batch_to_a_file(tmp_path):
    more = tables()["trips"].head(7).assign(rate=np.float32(2))
    found = []
    for offline, name in ((OURS, "ours"), (THEIRS, "theirs")):
        (tmp_path / name).mkdir()
        store = write_to(tmp_path / name, offline, name)
        store.write_to_offline_store("trips", more, allow_registry_cache=False)
        found.append(pd.read_parquet(tmp_path / name / "trips.parquet"))
    same(*found, ["driver_id", "at", "rate"])
    assert len(found[0]) == len(tables()["trips"]) + 7


def test_write_logged_features(ours, theirs, folder):
    logged = pa.table({"rate": pa.array([0.5, None], pa.float32()), "__request_id": ["a", "b"]})
    pq.write_table(logged.slice(0, 1), folder / "logs-in.parquet")
    found = []
    (folder / "theirs-logs").mkdir()  # Feast's docs say that it is made; its duckdb store does not
    for store, name in ((ours, "ours"), (theirs, "theirs")):
        service, offline = store.get_feature_service("trips_service"), store._get_provider().offline_store
        for data in (logged, folder / "logs-in.parquet"):
            offline.write_logged_features(store.config, data, None, service.logging_config, store.registry)
        found.append(pd.read_parquet(folder / f"{name}-logs"))
    same(*found, ["__request_id", "rate"])
    assert len(found[0]) == 3


@pytest.mark.parametrize("place", ["saved.parquet", "saved"])
def test_persist(ours, theirs, entities, tmp_path, place):
    found = []
    for store, name in ((ours, "ours"), (theirs, "theirs")):
        storage = SavedDatasetFileStorage(str(tmp_path / name / place))
        (tmp_path / name).mkdir()
        job = store.get_historical_features(entities.copy(), ["trips:rate"])
        job.persist(storage)
        found.append(pd.read_parquet(tmp_path / name / place))
        with pytest.raises(Exception, match="already exists"):
            job.persist(storage)
        job.persist(storage, allow_overwrite=True)
    same(*found, "note")
    assert len(pd.read_parquet(tmp_path / "ours" / place)) == len(entities)


def test_the_columns_of_a_source(ours, theirs):
    kinds = []
    for store in (ours, theirs):
        source = store.get_feature_view("trips").batch_source
        offline = store._get_provider().offline_store
        kinds.append([n for n, _ in offline.get_table_column_names_and_types_from_data_source(store.config, source)])
        offline.validate_data_source(store.config, source)
    assert kinds[0] == kinds[1]


def test_both_say_that_they_filter_by_created_timestamp(ours, theirs):
    for store in (ours, theirs):
        assert store._get_provider().offline_store.supports_filter_by_created_timestamp
        store._get_provider().offline_store.ensure_filter_by_created_timestamp_supported()


def test_monitoring_is_left_to_feast_as_its_base_class_allows(ours):
    """Feast's docs: backends that leave these out are served by a computation in Python over `pull_all...`."""
    offline = type(ours._get_provider().offline_store)
    assert offline.compute_monitoring_metrics is OfflineStore.compute_monitoring_metrics
    with pytest.raises(NotImplementedError):
        offline.get_monitoring_max_timestamp(ours.config, None, "at")


# Where the two differ.


def differing(tmp_path, trips, entities, features=("trips:rate",), **options):
    """Answers of both stores with other rows of trips."""
    answers = []
    for offline, name in ((OURS, "ours"), (THEIRS, "theirs")):
        (tmp_path / name).mkdir()
        for table, rows in {**tables(), "trips": trips}.items():
            rows.to_parquet(tmp_path / name / f"{table}.parquet")
        store = make_store(tmp_path / name, offline, name)
        answers.append(store.get_historical_features(entities.copy(), list(features), **options).to_df())
    return answers


def trip_rows(*rows):
    frame = pd.DataFrame(rows, columns=["driver_id", "rate", "at", "made"])
    times = {
        name: (pd.Timestamp(START) + pd.to_timedelta(frame[name], unit="h")).dt.as_unit("us") for name in ("at", "made")
    }
    return frame.assign(rate=frame["rate"].astype("float32"), count=1, **times)


ONE = pd.DataFrame({"driver_id": [1], "event_timestamp": [pd.Timestamp(START) + pd.Timedelta(hours=5)]})


def test_a_row_that_never_said_when_it_was_created_is_known(tmp_path):
    """Feast's docs: values "whose created timestamp is later than the entity row's" are left out. Null is not later,
    so ours is right; duckdb's comparison with null leaves the row out.
    """
    trips = trip_rows((1, 0.5, 4, None))
    left, right = differing(tmp_path, trips, ONE, filter_by_created_timestamp=True)
    assert left["rate"].to_list() == [0.5]
    assert right["rate"].isna().all()


def test_a_map_of_one_of_two_keys_keeps_the_other(ours, theirs, entities):
    """Feast's docs: a join key map renames the keys that it names. Ours still joins by the other one; duckdb's joins
    by the mapped key alone and takes the newest row of any city.
    """
    asked = entities.rename(columns={"driver_id": "boss_id"})
    answers = []
    for store in (ours, theirs):
        view = store.get_feature_view("there").with_name("there_boss").with_join_key_map({"driver_id": "boss_id"})
        store.apply([FeatureService(name="partly", features=[view])])
        answers.append(store.get_historical_features(asked.copy(), store.get_feature_service("partly")).to_df())
    plain = ours.get_historical_features(entities.copy(), ["there:rate"]).to_df()
    left, right = (answer.sort_values("note", ignore_index=True)["rate"] for answer in answers)
    pd.testing.assert_series_equal(left, plain.sort_values("note", ignore_index=True)["rate"])
    assert not left.equals(right)


def test_entity_rows_as_a_query(ours, theirs, entities, folder):
    """Feast's docs: "a pandas dataframe can be provided or a SQL query". Ours takes it, duckdb's takes frames only."""
    entities.to_parquet(folder / "entities.parquet")
    query = "SELECT * FROM read_parquet('entities.parquet') WHERE driver_id < 4"
    answer = ours.get_historical_features(query, ALL).to_df()
    frame = entities[entities["driver_id"] < 4]
    same(answer, theirs.get_historical_features(frame.copy(), ALL).to_df(), "note")
    with pytest.raises(AttributeError):
        theirs.get_historical_features(query, ALL)
    with pytest.raises(UserError, match="a query that DuckDB can answer"):
        ours.get_historical_features("SELECT * FROM nowhere", ALL)


def test_no_entity_rows_but_a_range_of_time(ours, theirs, folder):
    """Feast's docs: "If None, features will be retrieved for the specified timestamp range". Ours gives each key of the
    range its newest values at the end, as Feast's dask store does; duckdb's does not take the arguments.
    """
    span = {"start_date": START + timedelta(hours=2), "end_date": START + timedelta(hours=30)}
    answer = ours.get_historical_features(features=["trips:rate", "trips:count"], **span).to_df()
    dask = (
        make_store(folder, DASK, "dask").get_historical_features(features=["trips:rate", "trips:count"], **span).to_df()
    )
    columns = ["driver_id", "rate", "count"]
    same(answer[columns], dask[columns], "driver_id")
    assert (answer["event_timestamp"] == pd.Timestamp(span["end_date"])).all()
    with pytest.raises(TypeError, match="start_date"):
        theirs.get_historical_features(features=["trips:rate"], **span)
    with pytest.raises(UserError, match="views of the same keys"):
        ours.get_historical_features(features=["trips:rate", "weather:temp"], **span)


def test_a_batch_is_added_to_a_folder(tmp_path):
    """Feast's docs: the table is written "to the data source underlying the specified feature view", a folder too.
    Ours adds a file to it; duckdb's does not read a folder that it is to append to.
    """
    found = {}
    for offline, name in ((OURS, "ours"), (THEIRS, "theirs")):
        (tmp_path / name).mkdir()
        write_to(tmp_path / name, offline, name)
        rows = tables()["trips"]
        (tmp_path / name / "trips.parquet").unlink()
        (tmp_path / name / "trips.parquet").mkdir()
        rows.head(9).to_parquet(tmp_path / name / "trips.parquet" / "first.parquet")
        store = FeatureStore(config=make_store(tmp_path / name, offline, name).config)
        try:
            store.write_to_offline_store("trips", rows.tail(5), allow_registry_cache=False)
            found[name] = len(pd.read_parquet(tmp_path / name / "trips.parquet"))
        except Exception as error:  # noqa: BLE001 - whichever way duckdb refuses a folder
            found[name] = type(error).__name__
    assert found["ours"] == 14
    assert found["theirs"] != 14
