"""Feast's offline store on the point-in-time join of `tidegate.features.asof`. Does I/O.

In a Feast repo: ``offline_store: {type: tidegate.features.AsofOfflineStore}``. Sources are Parquet files or folders of
them (`FileSource`). Entity rows come as a pandas DataFrame.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from tidegate.features.asof import AsofView, join, newest_last, utc
from tidegate.ingest.sources import atomic_file, read_parquet

if TYPE_CHECKING:
    from feast.data_source import DataSource
    from feast.feature_view import FeatureView
    from feast.infra.registry.base_registry import BaseRegistry
    from feast.saved_dataset import SavedDatasetStorage


class AsofOfflineStoreConfig(FeastConfigBaseModel):
    """The store has no settings but its type."""

    type: Literal["tidegate.features.AsofOfflineStore"] = "tidegate.features.AsofOfflineStore"


class AsofRetrievalJob(RetrievalJob):
    """One retrieval: runs `evaluate` when its rows are asked for."""

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        repo_path: Path | None,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate, self._repo_path, self._metadata = evaluate, repo_path, metadata
        self._full_feature_names, self._on_demand = full_feature_names, on_demand_feature_views or []

    @property
    def full_feature_names(self) -> bool:
        """Whether feature names carry their view's name."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views that Feast applies to the rows."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        rows: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return rows

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the rows, on-demand features included, to a Parquet file."""
        from feast.errors import SavedDatasetLocationAlreadyExists

        path = source_path(storage.to_data_source(), self._repo_path)
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        rows = pl.DataFrame(self.to_arrow(timeout=timeout))
        with atomic_file(path) as made:
            rows.write_parquet(made)


class AsofOfflineStore(OfflineStore):
    """Point-in-time features by polars: fast, no entity row dropped, the results that Feast documents."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Every entity row with the feature values known at its time, in the order of the rows."""
        if not isinstance(entity_df, pd.DataFrame):
            raise ValueError(f"entity_df: got {type(entity_df).__name__}, takes a pandas DataFrame")
        time = infer_event_timestamp_from_entity_df(dict(zip(entity_df.columns, entity_df.dtypes, strict=True)))
        times = pd.to_datetime(entity_df[time], utc=True)
        entities = pl.from_pandas(entity_df.assign(**{time: times}), include_index=False).with_columns(utc(time))
        views = [definition(view, feature_refs, full_feature_names) for view in feature_views]

        def evaluate() -> pl.DataFrame:
            tables = [read_view(view, one, config.repo_path) for view, one in zip(feature_views, views, strict=True)]
            return join(entities, zip(views, tables, strict=True), time)

        return AsofRetrievalJob(
            evaluate,
            config.repo_path,
            full_feature_names,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(
                features=feature_refs,
                keys=[column for column in entities.columns if column != time],
                min_event_timestamp=times.min().to_pydatetime(),
                max_event_timestamp=times.max().to_pydatetime(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The newest row of each key within the time range, both ends inclusive."""
        keys, features = tuple(join_key_columns), tuple(feature_name_columns)
        view = AsofView("source", keys, features, None, timestamp_field, created_timestamp_column)

        def evaluate() -> pl.DataFrame:
            rows = newest_last(view, read_source(data_source, config.repo_path), drop_null_keys=False)
            inside = rows.filter(_between(timestamp_field, start_date, end_date))
            if keys:
                return inside.unique(list(keys), keep="last", maintain_order=True)
            return inside.tail(1).with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))

        return AsofRetrievalJob(evaluate, config.repo_path)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row within the time range, both ends inclusive."""
        times = [timestamp_field] + ([created_timestamp_column] if created_timestamp_column else [])
        columns = [*join_key_columns, *feature_name_columns, *times]

        def evaluate() -> pl.DataFrame:
            rows = read_source(data_source, config.repo_path).select(columns).with_columns(utc(timestamp_field))
            return rows.filter(_between(timestamp_field, start_date, end_date))

        return AsofRetrievalJob(evaluate, config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to the view's Parquet file, whose columns they must have; readers see all of them or none."""
        path = source_path(batch_source(feature_view), config.repo_path)
        before, rows = read_parquet(path), pl.DataFrame(table)
        if set(before.columns) != set(rows.columns):
            raise ValueError(f"{path}: got columns {rows.columns}, takes {before.columns}")
        added = rows.select(before.columns).cast(before.schema)
        with atomic_file(path) as made:
            pl.concat([before, added]).write_parquet(made)
        if progress:
            progress(rows.height)


def definition(view: FeatureView, feature_refs: list[str], full_feature_names: bool) -> AsofView:
    """A Feast view, as far as it was asked for, as the join takes it."""
    projection: Any = view.projection
    source = batch_source(view)
    name = str(projection.name_to_use())
    asked = tuple(ref.split(":", 1)[1] for ref in feature_refs if ref.split(":", 1)[0] == name)
    prefix = f"{projection.name_alias or view.name}__" if full_feature_names else ""
    keys = tuple(column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID)
    return AsofView(
        name=name,
        keys=keys,
        features=asked,
        ttl=view.ttl or None,
        timestamp=source.timestamp_field,
        created=source.created_timestamp_column or None,
        entity_keys=dict(projection.join_key_map),
        rename={feature: prefix + feature for feature in asked},
    )


def batch_source(view: FeatureView) -> DataSource:
    """The view's source; ValueError when it has none."""
    if view.batch_source is None:
        raise ValueError(f"feature view {view.name}: got no batch source, takes one")
    return view.batch_source


def source_path(source: DataSource, repo_path: Path | None) -> Path:
    """The file or folder of a source; a relative path starts at the repo."""
    if not isinstance(source, FileSource):
        raise ValueError(f"source {source.name}: got {type(source).__name__}, takes a FileSource")
    return Path(FileSource.get_uri_for_file_path(repo_path=repo_path, uri=source.path).removeprefix("file://"))


def read_source(source: DataSource, repo_path: Path | None) -> pl.DataFrame:
    """A source's rows under Feast's names."""
    path = source_path(source, repo_path)
    if path.is_dir():
        parts = [read_parquet(part) for part in sorted(path.rglob("*.parquet"))]
        rows = pl.concat(parts, how="vertical_relaxed")
    else:
        rows = read_parquet(path)
    return rows.rename(source.field_mapping or {}, strict=False)


def read_view(view: FeatureView, wanted: AsofView, repo_path: Path | None) -> pl.DataFrame:
    """The columns of a view's source that the join needs."""
    created = [wanted.created] if wanted.created else []
    rows = read_source(batch_source(view), repo_path)
    return rows.select(*wanted.keys, wanted.timestamp, *created, *wanted.features)


def _between(column: str, start: datetime | None, end: datetime | None) -> pl.Expr:
    after = pl.lit(True) if start is None else pl.col(column) >= _aware(start)
    before = pl.lit(True) if end is None else pl.col(column) <= _aware(end)
    return after & before


def _aware(time: datetime) -> pl.Expr:
    return pl.lit(pd.Timestamp(time).tz_localize("UTC") if time.tzinfo is None else time).cast(pl.Datetime("us", "UTC"))
