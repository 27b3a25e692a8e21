"""Feast's offline store on the point-in-time join of `tidegate.features.asof`. Does I/O.

In a Feast repo: ``offline_store: {type: tidegate.features.AsofOfflineStore}``. Sources are Parquet files or folders of
them (`FileSource`), here or behind a URL. Entity rows come as a pandas DataFrame, as a query that DuckDB answers, or
not at all, for a range of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range
from pydantic import PositiveInt

from tidegate.errors import UserError
from tidegate.features.asof import TIME, AsofView, check_names, newest_last, utc
from tidegate.features.entity_rows import entity_rows
from tidegate.features.historical import features_at, features_of_range, same_keys
from tidegate.features.opened import OpenedView, Span, aware, between, opened_view, time_range
from tidegate.features.parquet_source import (
    ParquetSource,
    collect,
    columns_of,
    scan,
    schema_of,
    within,
)
from tidegate.features.parquet_write import add_part, add_to_file
from tidegate.features.retrieval import AsofRetrievalJob, source_of

if TYPE_CHECKING:
    import pandas as pd
    from feast.data_source import DataSource
    from feast.feature_logging import LoggingConfig, LoggingSource
    from feast.feature_view import FeatureView
    from feast.infra.registry.base_registry import BaseRegistry


class AsofOfflineStoreConfig(FeastConfigBaseModel):
    """Settings of the store under ``offline_store`` in feature_store.yaml."""

    type: Literal["tidegate.features.AsofOfflineStore"] = "tidegate.features.AsofOfflineStore"
    memory_bytes: PositiveInt | None = None
    """Memory that a join may take; none: what the machine, or the container, has free when it starts."""


class AsofOfflineStore(OfflineStore):
    """Point-in-time features by polars: fast, no entity row dropped, the results that Feast documents."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Every entity row with the feature values known at its time, in the order of the rows.

        Without entity rows: every key that has a row between `start_date` and `end_date`, with its newest values of
        that range; `end_date` is now and `start_date` the longest time to live before it where they are not given.
        """
        views = [definition(view, feature_refs, full_feature_names) for view in feature_views]
        sources = [_place(batch_source(view), config.repo_path) for view in feature_views]
        memory = config.offline_store.memory_bytes

        def opened() -> list[OpenedView]:
            return [opened_view(view, *source) for view, source in zip(views, sources, strict=True)]

        if entity_df is None:
            keys, time = same_keys(views), TIME
            low, high = map(aware, compute_non_entity_date_range(feature_views, start_date, end_date))
            span: Span = (low, high)
            evaluate = partial(features_of_range, opened, keys, low, high, filter_by_created_timestamp)
        else:
            rows, time = entity_rows(entity_df, config.repo_path)
            check_names(rows.columns, views)
            keys, span = [column for column in rows.columns if column != time], time_range(rows[time])
            evaluate = partial(features_at, rows, opened, time, filter_by_created_timestamp, memory)
        return AsofRetrievalJob(
            evaluate,
            config.repo_path,
            full_feature_names,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(feature_refs, keys, *span),
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
        """The newest row of each key within the time range, both ends inclusive. Names are those in the source."""
        keys, features = tuple(join_key_columns), tuple(feature_name_columns)
        view = AsofView("source", keys, features, None, timestamp_field, created_timestamp_column)

        def evaluate() -> pl.DataFrame:
            rows = newest_last(view, rows_between(view, data_source, config, start_date, end_date), False)
            if keys:
                return rows.unique(list(keys), keep="last", maintain_order=True)
            return rows.tail(1).with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))

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
        """Every row within the time range, both ends inclusive. Names are those in the source."""
        keys, features = tuple(join_key_columns), tuple(feature_name_columns)
        view = AsofView("source", keys, features, None, timestamp_field, created_timestamp_column)

        def evaluate() -> pl.DataFrame:
            rows = rows_between(view, data_source, config, start_date, end_date)
            return rows.select(list(dict.fromkeys([*keys, *features, *view.order])))

        return AsofRetrievalJob(evaluate, config.repo_path)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Add rows to the view's source, whose columns they must have; readers see all of them or none.

        A file is written anew with the rows at its end. A folder gets one more file, which no other file is read or
        written for; a batch written twice is there once. The first batch makes the columns, even when it has no rows.
        """
        source = source_of(batch_source(feature_view), config.repo_path)
        back = {new: old for old, new in (batch_source(feature_view).field_mapping or {}).items()}
        rows, part = pl.DataFrame(table).rename(back, strict=False), source.any_part()
        if part is not None:
            rows = as_in_source(rows, columns_of(source, part), source.url)
        if not source.is_folder:
            add_to_file(source, rows)
        elif rows.height or part is None:
            add_part(source, rows, source.hive_keys(part) if part else ())
        if progress:
            progress(rows.height)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Add logged features, a table or a folder of Parquet files, to the folder that the logging config names."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise UserError("logging destination", type(destination).__name__, "a FileLoggingDestination")
        if isinstance(data, Path):
            here = ParquetSource(str(data), str(data))
            rows = collect([scan(here)], here.url)[0]
        else:
            rows = pl.DataFrame(data)
        add_part(source_of(destination.to_data_source(), config.repo_path), rows, destination.partition_by or ())

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Names and Arrow types of a source's columns; unlike Feast's own, behind any URL."""
        source = source_of(data_source, config.repo_path)
        part = source.any_part()
        if part is None:
            raise UserError(source.url, "no Parquet file", "a Parquet file; offline_write_batch makes the first")
        empty = pl.DataFrame(schema=columns_of(source, part)).to_arrow(compat_level=pl.CompatLevel.oldest())
        kinds = ((field.name, str(field.type).removeprefix("large_")) for field in empty.schema)
        return list(kinds)


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
    """The view's source; UserError when it has none."""
    if view.batch_source is None:
        raise UserError(f"feature view {view.name}", "no batch source", "one")
    return view.batch_source


def _place(source: DataSource, repo_path: Path | None) -> tuple[ParquetSource, dict[str, str]]:
    return source_of(source, repo_path), dict(source.field_mapping or {})


def rows_between(
    view: AsofView, declared: DataSource, config: RepoConfig, start: datetime | None, end: datetime | None
) -> pl.DataFrame:
    """The view's columns of the rows within a time range, in the order of the files."""
    source = source_of(declared, config.repo_path)
    frame = scan(source)
    schema = schema_of(frame, source.url)
    if missing := [column for column in view.columns if column not in schema]:
        raise UserError(source.url, f"no column {', '.join(missing)}", "the columns that are asked for")
    wide = within(view.timestamp, schema[view.timestamp], aware(start), aware(end))
    rows = collect([frame.select(view.columns).filter(wide)], source.url)[0]
    return rows.with_columns(utc(view.timestamp)).filter(between(view.timestamp, start, end))


def as_in_source(rows: pl.DataFrame, schema: pl.Schema, url: str) -> pl.DataFrame:
    """Rows in the column order and the types of the source; UserError when they are others."""
    if set(rows.columns) != set(schema):
        raise UserError(url, f"columns {', '.join(rows.columns)}", f"columns {', '.join(schema)}")
    try:
        return rows.select(schema.names()).cast(schema)
    except pl.exceptions.PolarsError as error:
        raise UserError(url, " ".join(str(error).split())[:160], "values of the columns' types") from None
