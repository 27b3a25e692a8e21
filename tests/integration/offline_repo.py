"""A small Feast repo for tests of the offline store."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from tidegate.features.feast_repo import quick_import

with quick_import():
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RequestSource, ValueType
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.repo_config import RepoConfig
    from feast.types import Float32, Int64, String

START = datetime(2013, 1, 1, tzinfo=UTC)
OURS = {"type": "tidegate.features.AsofOfflineStore"}


def make_store(folder, offline, where="", endpoint=None):
    """Trips by driver, weather by city, and one view on demand; their tables in the folder, or at the URL `where`."""
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
            name="trips_table",
            path=f"{where}trips.parquet",
            timestamp_field="at",
            created_timestamp_column="made",
            s3_endpoint_override=endpoint,
        ),
    )
    weather = FeatureView(
        name="weather",
        entities=[city],
        ttl=timedelta(0),
        schema=[Field(name="city_id", dtype=String), Field(name="temp", dtype=Float32)],
        source=FileSource(
            name="weather_table", path=f"{where}weather.parquet", timestamp_field="at", s3_endpoint_override=endpoint
        ),
    )
    request = RequestSource(name="asked", schema=[Field(name="extra", dtype=Float32)])

    @on_demand_feature_view(sources=[weather, request], schema=[Field(name="warmer", dtype=Float32)], mode="pandas")
    def warmer(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"warmer": (inputs["temp"] + inputs["extra"]).astype("float32")})

    store.apply([driver, city, trips, weather, warmer])
    return store


def sample():
    """200 trips, up to 60 weather reports and 150 entity rows, the same every time."""
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
